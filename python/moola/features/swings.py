"""Swings of whole arrays of bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from moola import _core
from moola.features.compute import Column, price_columns
from moola.settings.engine import parameters

if TYPE_CHECKING:
    from moola.settings.features import FeatureConfig

__all__ = ["Swings", "compute_swings"]


class Swings(NamedTuple):
    """The state of the zigzag at the close of each bar: four arrays of shape [N]."""

    high_index: npt.NDArray[np.int64]
    """The bar of the last confirmed swing high; −1 before the first."""
    low_index: npt.NDArray[np.int64]
    """The bar of the last confirmed swing low; −1 before the first."""
    leg: npt.NDArray[np.int8]
    """+1 while the leg runs up, −1 while it runs down, 0 before the first."""
    atr: npt.NDArray[np.float64]
    """The average true range, in units of price."""


def compute_swings(
    open: Column,
    high: Column,
    low: Column,
    close: Column,
    config: FeatureConfig | Mapping[str, Any] | None = None,
    *,
    allow_nonpositive: bool = False,
) -> Swings:
    """The zigzag and the ATR under the features, for checks and pictures.

    Arguments and errors are those of `compute_features`. The ATR is the plain mean of the last `atr_period` true
    ranges (TA-Lib's SMA of TRANGE); a swing is confirmed by the first close that leaves the extreme by `zigzag_k` ATRs.

    >>> import numpy as np, moola
    >>> close = np.array([100.0, 101.0, 102.0, 99.0])
    >>> swings = moola.compute_swings(close, close + 0.5, close - 0.5, close)
    >>> int(swings.high_index[-1]), int(swings.leg[-1])
    (2, -1)
    """
    columns = price_columns(open, high, low, close)
    return Swings(*_core.compute_swings(*columns, parameters(config), allow_nonpositive))
