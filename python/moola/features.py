"""Features of bars in memory: over whole columns, and live, bar by bar."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from moola import _core

if TYPE_CHECKING:
    from moola.config import FeatureConfig
    from moola.store import FeatureStore

__all__ = ["FeatureStream", "Swings", "compute_features", "compute_swings"]

Column: TypeAlias = npt.NDArray[np.float64]


class Swings(NamedTuple):
    """What the zigzag knew at the close of each bar; four arrays of shape [N]."""

    high_index: npt.NDArray[np.int64]
    """The bar of the last confirmed swing high, −1 before there is one."""
    low_index: npt.NDArray[np.int64]
    """The bar of the last confirmed swing low, −1 before there is one."""
    leg: npt.NDArray[np.int8]
    """+1 while the leg runs up, −1 while it runs down, 0 before the first."""
    atr: npt.NDArray[np.float64]
    """The average true range, in units of price."""


def parameters(
    config: FeatureConfig | Mapping[str, Any] | None,
) -> tuple[int, int, float, float, int, int] | None:
    """The engine's form of a configuration; None stands for its defaults, so that these cost no import."""
    if config is None:
        return None
    from moola.config import feature_config

    return feature_config(config).astuple()


def compute_features(
    open: Column,
    high: Column,
    low: Column,
    close: Column,
    *,
    feature_set: str = "relativity10",
    config: FeatureConfig | Mapping[str, Any] | None = None,
    out: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Computes the features of one series of closed bars.

    Args:
        open, high, low, close: contiguous float64 arrays of shape [N], in units of price; they are not copied.
        feature_set: `relativity10`, `relativity12`, `relative_transform11` or `ohlc4`.
        config: parameters that differ from the defaults.
        out: a C-contiguous float32 array of shape [N, D] to write into. Its content means nothing after an error.

    Returns:
        float32 array of shape [N, D], one row a bar; `out` where it was given. A row depends on its own and earlier
        bars only, and has the same bits whatever follows it, and whatever processor computes it. The first
        `warmup_bars` rows, and those before the first swings, are not yet meaningful: see `FeatureStore.valid`.

    Raises:
        BarError: bars that are not prices: NaN, infinite, not positive, high below low, open or close outside.
        ConfigError: an unknown feature set, an unknown parameter or one out of range.
        TypeError, ValueError: arrays of another type, shape or layout.

    The GIL is released, and Ctrl-C interrupts.

    >>> import numpy as np, moola
    >>> close = np.array([100.0, 100.5, 100.25])
    >>> open, high, low = close - 0.25, close + 0.25, close - 0.5
    >>> moola.compute_features(open, high, low, close).shape
    (3, 10)
    """
    columns = _columns(open, high, low, close)
    if out is not None:
        shape = (len(columns[0]), len(_core.describe_features(feature_set)))
        if not isinstance(out, np.ndarray) or out.dtype != np.float32:
            raise TypeError(f"out must be a float32 array, not {_describe(out)}")
        if out.shape != shape or not out.flags.c_contiguous or not out.flags.writeable:
            raise ValueError(
                f"out must be a writeable C-contiguous array of shape {shape}, not {_describe(out)}"
            )
    return _core.compute_features(*columns, feature_set, parameters(config), out)


def compute_swings(
    open: Column,
    high: Column,
    low: Column,
    close: Column,
    config: FeatureConfig | Mapping[str, Any] | None = None,
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
    return Swings(*_core.compute_swings(*_columns(open, high, low, close), parameters(config)))


class FeatureStream(_core.FeatureStream):
    """Features live: closed bars in, one row each, with the same bits as `compute_features` over all of them.

    Push a bar when it is closed, never while it forms: its high, low and close would still change.

    Args:
        feature_set, config: as for `compute_features`.
        reset_on_gap: a duration such as `'4h'`; a bar that comes later than that after the one before it begins a new
            segment, as in a store built with it. Every bar then needs its timestamp.

    >>> stream = FeatureStream()
    >>> stream.push(100.0, 100.5, 99.5, 100.25).shape
    (10,)
    >>> FeatureStream.from_state(stream.state()).valid
    False
    """

    def __new__(
        cls,
        feature_set: str = "relativity10",
        config: FeatureConfig | Mapping[str, Any] | None = None,
        reset_on_gap: str | int | timedelta | None = None,
    ) -> Self:
        if reset_on_gap is not None:
            from moola.config import parse_duration

            reset_on_gap = parse_duration(reset_on_gap)
        return super().__new__(cls, feature_set, parameters(config), reset_on_gap)

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """The stream whose `state()` this is. Raises `StateError` for one that is foreign, old or damaged."""
        stream = cls()
        stream.restore(state)
        return stream

    @classmethod
    def from_store(cls, store: FeatureStore | str | os.PathLike[str], symbol: str | None = None) -> Self:
        """A stream that goes on after the last bar that a store has of a symbol, to the bit.

        `symbol` may be left out where the store has but one. Raises `ConfigError` for a symbol that it does not have.
        """
        from moola.errors import ConfigError
        from moola.store import FeatureStore

        if not isinstance(store, FeatureStore):
            store = FeatureStore.open(store)
        symbols = list(dict.fromkeys(segment.symbol for segment in store.segments))
        if symbol is None and len(symbols) == 1:
            symbol = symbols[0]
        if symbol not in symbols:
            have = ", ".join(symbols[:10]) + (", …" if len(symbols) > 10 else "")
            what = "several symbols, name one" if symbol is None else f"no symbol {symbol!r}"
            raise ConfigError("symbol", f"the store has {what}: {have}")
        last = [segment for segment in store.segments if segment.symbol == symbol][-1]
        stream = cls(store.feature_set, store.config, store.metadata["read_options"]["reset_on_gap"])
        step = 1 << 18
        for first in range(last.first_row, last.last_row + 1, step):
            rows = slice(first, min(first + step, last.last_row + 1))
            open, high, low, close = np.ascontiguousarray(store.bars[rows].T)
            stream.push_many(open, high, low, close, np.array(store.timestamps[rows]))
        return stream


def _columns(*columns: Column) -> tuple[Column, Column, Column, Column]:
    """Four columns as the engine takes them: as they are, or refused with what to do."""
    _core.load_numpy()
    checked = []
    for name, column in zip(("open", "high", "low", "close"), columns, strict=True):
        # A pandas or polars column gives its own memory here.
        array = np.asarray(column)
        if array.dtype != np.float64:
            raise TypeError(
                f"{name} must be a float64 array, not {_describe(array)}; use {name}.astype('float64')"
            )
        if array.ndim != 1:
            raise ValueError(f"{name} must have one dimension, not {_describe(array)}")
        if not array.flags.c_contiguous:
            raise ValueError(f"{name} must be contiguous; use numpy.ascontiguousarray({name})")
        checked.append(array)
    return (checked[0], checked[1], checked[2], checked[3])


def _describe(x: object) -> str:
    return f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
