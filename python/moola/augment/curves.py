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
    """The basis splines: curve i has the value 1 at knot i and 0 at the others.

    A spline is linear in its values at the knots, so that every curve is a weighted sum of these. As in Um et al. and
    in SciPy, it is twice continuously differentiable, and a single cubic for four knots.

    Args:
        knots: The number of knots, spaced evenly from the first bar to the last.
        length: K, bars in a window.
        between: Whether to evaluate halfway between bars instead of at the bars.
        dtype: The type of the result.
        device: The device of the result.

    Returns `[knots, length]`, or `[knots, length − 1]` for `between`.
    """
    from scipy.interpolate import CubicSpline

    bars = np.arange(length - 1) + 0.5 if between else np.arange(float(length))
    basis: NDArray[np.float64] = CubicSpline(np.linspace(0, 1, knots), np.eye(knots))(
        bars / max(length - 1, 1)
    )
    return torch.from_numpy(np.ascontiguousarray(basis.T)).to(device, dtype)


def curves(values: Tensor, basis: Tensor) -> Tensor:
    """The curves `[…, length]` through values `[…, knots]` at the knots.

    Knots are added one by one. The order of summation in a matrix product, and so its last bits, could depend on the
    size of the batch.
    """
    total = values[..., 0, None] * basis[0]
    term = torch.empty_like(total)
    for knot in range(1, len(basis)):
        torch.mul(values[..., knot, None], basis[knot], out=term)
        total += term
    return total
