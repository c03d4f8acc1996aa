"""Features of whole arrays of bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from moola import _core
from moola.settings.engine import parameters

if TYPE_CHECKING:
    from moola.settings.features import FeatureConfig

__all__ = ["Column", "compute_features", "price_columns"]


Column: TypeAlias = npt.NDArray[np.float64]


def compute_features(
    open: Column,
    high: Column,
    low: Column,
    close: Column,
    *,
    feature_set: str = "relativity10",
    config: FeatureConfig | Mapping[str, Any] | None = None,
    out: npt.NDArray[np.float32] | None = None,
    allow_nonpositive: bool = False,
) -> npt.NDArray[np.float32]:
    """Computes the features of one series of closed bars.

    Args:
        open, high, low, close: contiguous float64 arrays of shape [N], in units of price; they are not copied.
        feature_set: `relativity10`, `relativity12`, `relative_transform11` or `ohlc4`.
        config: parameters that differ from the defaults.
        out: a C-contiguous float32 array of shape [N, D] to write into. Its content means nothing after an error.
        allow_nonpositive: prices may also be zero or negative, as of spreads and back-adjusted contracts. The set
            `relative_transform11` takes logarithms of prices and refuses it.

    Returns:
        float32 array of shape [N, D], one row a bar; `out` where it was given. A row depends on its own and earlier
        bars only. Its bits do not depend on later bars or on the processor. The first
        `warmup_bars` rows, and those before the first swings, are not yet meaningful: see `FeatureStore.valid`.

    Raises:
        BarError: bars that are not prices: NaN, infinite, not positive, high below low, open or close outside.
        ConfigError: an unknown feature set, an unknown parameter or one out of range, or `allow_nonpositive` with
            `relative_transform11`.
        TypeError, ValueError: arrays of another type, shape or layout.

    The GIL is released, and Ctrl-C interrupts.

    >>> import numpy as np, moola
    >>> close = np.array([100.0, 100.5, 100.25])
    >>> open, high, low = close - 0.25, close + 0.25, close - 0.5
    >>> moola.compute_features(open, high, low, close).shape
    (3, 10)
    """
    columns = price_columns(open, high, low, close)
    if out is not None:
        shape = (len(columns[0]), len(_core.describe_features(feature_set)))
        if not isinstance(out, np.ndarray) or out.dtype != np.float32:
            raise TypeError(f"out must be a float32 array, not {describe_columns(out)}")
        if out.shape != shape or not out.flags.c_contiguous or not out.flags.writeable:
            raise ValueError(
                f"out must be a writeable C-contiguous array of shape {shape}, not {describe_columns(out)}"
            )
    return _core.compute_features(*columns, feature_set, parameters(config), out, allow_nonpositive)


def price_columns(*columns: Column) -> tuple[Column, Column, Column, Column]:
    """Four columns as the engine takes them: as they are, or refused with what to do."""
    _core.load_numpy()
    checked = []
    for name, column in zip(("open", "high", "low", "close"), columns, strict=True):
        # A pandas or polars column gives its own memory here.
        array = np.asarray(column)
        if array.dtype != np.float64:
            raise TypeError(
                f"{name} must be a float64 array, not {describe_columns(array)}; use {name}.astype('float64')"
            )
        if array.ndim != 1:
            raise ValueError(f"{name} must have one dimension, not {describe_columns(array)}")
        if not array.flags.c_contiguous:
            raise ValueError(f"{name} must be contiguous; use numpy.ascontiguousarray({name})")
        checked.append(array)
    return (checked[0], checked[1], checked[2], checked[3])


def describe_columns(x: object) -> str:
    return f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
