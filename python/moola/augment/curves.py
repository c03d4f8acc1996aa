"""Smooth random curves over a window: cubic splines through evenly spaced knots."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["curves", "spline_basis"]


@lru_cache(maxsize=64)
def spline_basis(
    knots: int, length: int, *, between: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """What one knot at 1 and the others at 0 give: `[knots, length]` at the bars, `[knots, length − 1]` between them.

    A spline is linear in its knots, so that all curves of a batch are sums of these. The spline is that of Um et al.
    and of SciPy: twice continuously differentiable, and through four knots one cubic. `between` evaluates it halfway
    from each bar to the next. Knots lie evenly from the first bar to the last.
    """
    from scipy.interpolate import CubicSpline

    bars = np.arange(length - 1) + 0.5 if between else np.arange(float(length))
    basis: NDArray[np.float64] = CubicSpline(np.linspace(0, 1, knots), np.eye(knots))(
        bars / max(length - 1, 1)
    )
    return torch.from_numpy(np.ascontiguousarray(basis.T)).to(device, dtype)


def curves(values: Tensor, basis: Tensor) -> Tensor:
    """The curves `[…, length]` through these values at the knots, `[…, knots]`.

    Knot by knot and not as a matrix product, whose order of summation, and so whose last bits, could depend on the
    size of the batch.
    """
    total = values[..., 0, None] * basis[0]
    term = torch.empty_like(total)
    for knot in range(1, len(basis)):
        torch.mul(values[..., knot, None], basis[knot], out=term)
        total += term
    return total
