"""Features one closed bar at a time, with the bits of the batch path."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from moola import _core
from moola.errors import ConfigError
from moola.features.compute import price_columns
from moola.features.feed_times import numbers
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

    A bar's time is a whole number in `unit`, a `datetime` with a zone, or a `numpy.datetime64`, which is UTC. Each must
    be later than the one before: a repeated bar is refused. `last_timestamp` is the open time of the last bar, in UTC
    nanoseconds, as in a store. Several threads may call one stream: a lock lets their calls come one after another.

    Args:
        feature_set, config: as for `compute_features`.
        reset_on_gap: a duration such as `'4h'`. A bar that comes later than this after the bar before begins a new
            segment, as in a store built with it. Every bar then needs its timestamp.
        stamp: whether times are the `open` (the default) or the `close` of their bars.
        bar_interval: how long a bar is, such as `'1m'`. `stamp='close'` needs it.
        unit: `s`, `ms`, `us` or `ns` (the default): the unit of times that are whole numbers since 1970.
        allow_nonpositive: prices may also be zero or negative, as for `compute_features`.

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
        *,
        stamp: Literal["open", "close"] | None = None,
        bar_interval: str | int | timedelta | None = None,
        unit: Literal["s", "ms", "us", "ns"] | None = None,
        allow_nonpositive: bool = False,
    ) -> Self:
        if reset_on_gap is not None or bar_interval is not None:
            from moola.settings.durations import parse_duration

            reset_on_gap = None if reset_on_gap is None else parse_duration(reset_on_gap)
            bar_interval = None if bar_interval is None else parse_duration(bar_interval, "bar_interval")
        stream = super().__new__(cls, feature_set, parameters(config), reset_on_gap, allow_nonpositive)
        if stamp is not None or bar_interval is not None or unit is not None:
            stream._set_feed(stamp, bar_interval, unit)
        return stream

    def _set_feed(self, stamp: str | None, bar_interval: int | None, unit: str | None) -> None:
        if stamp not in (None, "open", "close"):
            raise ConfigError("stamp", f"{stamp!r} is no stamp; give 'open' or 'close'")
        if unit is not None and not isinstance(unit, str):
            raise ConfigError("unit", f"{unit!r} is no unit of times; give 's', 'ms', 'us' or 'ns'")
        self.set_feed(stamp == "close", bar_interval, unit or "ns")

    def push_many(
        self,
        open: npt.NDArray[np.float64],
        high: npt.NDArray[np.float64],
        low: npt.NDArray[np.float64],
        close: npt.NDArray[np.float64],
        timestamp: Any = None,
        instants: bool = False,
    ) -> npt.NDArray[np.float32]:
        """Takes closed bars, in order of time, and returns their rows, float32 `[N, D]`.

        Args:
            open, high, low, close: float64 arrays of shape `[N]`, in units of price.
            timestamp: the time of each bar, `[N]`: whole numbers in the stream's unit, `datetime64` (UTC), or datetimes
                with a zone.
            instants: the numbers are UTC nanoseconds; the stream's unit does not apply.

        Raises `BarError` for bars that are no prices or not in order, and `TimestampError` for times that cannot be in
        the stream's unit. The stream is then as it was.
        """
        columns = price_columns(open, high, low, close)
        if timestamp is None:
            return super().push_many(*columns)
        times, dated = numbers(timestamp)
        return super().push_many(*columns, times, dated or instants)

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """The stream that this `state()` describes, also one of moola 0.1.0. Its stamp, bar length, unit and
        `allow_nonpositive` are kept.

        Raises `StateError` when the state is foreign, of an unknown version, or damaged.
        """
        stream = cls()
        stream.restore(state)
        return stream

    @classmethod
    def from_store(
        cls,
        store: OpenStore | str | os.PathLike[str],
        symbol: str | None = None,
        stamp: Literal["open", "close"] | None = None,
        unit: Literal["s", "ms", "us", "ns"] | None = None,
    ) -> Self:
        """A stream that continues after a store's last bar of a symbol, to the bit.

        The stream knows how long the store's bars are, so it refuses times that cannot be in its unit.
        Prices may be zero or negative if the store was built with `allow_nonpositive`.

        Args:
            store: an open store, or its path.
            symbol: may be left out when the store has only one.
            stamp: whether the feed's times are the `open` or the `close` of their bars. A store that was built from
                close stamps takes close stamps unless this says otherwise.
            unit: `s`, `ms`, `us` or `ns` (the default): the unit of times that are whole numbers since 1970.

        Raises `ConfigError` when the store lacks the symbol, and for an unknown stamp or unit.
        """
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
        reading = store.metadata["read_options"]
        any_sign = bool(reading.get("allow_nonpositive"))
        stream = cls(store.feature_set, store.config, reading["reset_on_gap"], allow_nonpositive=any_sign)
        step = 1 << 18
        for first in range(last.first_row, last.last_row + 1, step):
            rows = slice(first, min(first + step, last.last_row + 1))
            open, high, low, close = np.ascontiguousarray(store.bars[rows].T)
            stream.push_many(open, high, low, close, np.array(store.timestamps[rows]), instants=True)
        # A symbol with a single bar may have no bar length: its times were then stored as they came.
        feed_stamp = (stamp or reading.get("stamp")) if last.bar_interval or stamp else None
        # Only now: the store's own times are open times in nanoseconds.
        stream._set_feed(feed_stamp, last.bar_interval or None, unit)
        return stream
