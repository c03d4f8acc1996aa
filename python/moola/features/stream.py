"""Features one closed bar at a time, with the bits of the batch path."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from moola import _core
from moola.settings.engine import parameters

if TYPE_CHECKING:
    from moola.settings.features import FeatureConfig
    from moola.store.segments import Segment

__all__ = ["FeatureStream", "OpenStore"]


class OpenStore(Protocol):
    """An open store, as far as a stream reads it. `FeatureStore` is one."""

    @property
    def segments(self) -> Sequence[Segment]: ...
    @property
    def feature_set(self) -> str: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...
    @property
    def bars(self) -> npt.NDArray[np.float64]: ...
    @property
    def timestamps(self) -> npt.NDArray[np.int64]: ...


class FeatureStream(_core.FeatureStream):
    """Features of a live feed: push closed bars, get one row each, with the same bits as `compute_features`.

    Push a bar when it is closed. While it forms, its high, low and close still change.

    Args:
        feature_set, config: as for `compute_features`.
        reset_on_gap: a duration such as `'4h'`. A bar that comes later than this after the bar before begins a new
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
            from moola.settings.durations import parse_duration

            reset_on_gap = parse_duration(reset_on_gap)
        return super().__new__(cls, feature_set, parameters(config), reset_on_gap)

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """The stream whose `state()` this is. Raises `StateError` when the state is foreign, old or damaged."""
        stream = cls()
        stream.restore(state)
        return stream

    @classmethod
    def from_store(cls, store: OpenStore | str | os.PathLike[str], symbol: str | None = None) -> Self:
        """A stream that continues after a store's last bar of a symbol, to the bit.

        `symbol` may be left out when the store has only one. Raises `ConfigError` when the store lacks the symbol.
        """
        from moola.errors import ConfigError

        if isinstance(store, str | os.PathLike):
            from moola.store.reader import FeatureStore

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
