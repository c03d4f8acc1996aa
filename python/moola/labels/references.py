"""Labels of windows that lie in a feature store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moola import _core
from moola.bars.options import parse_names
from moola.bars.times import EPOCH_FIRST
from moola.errors import ConfigError
from moola.errors.base import format_time
from moola.labels.overlaps import group_overlaps
from moola.labels.refusals import Refusals
from moola.labels.repeats import resolve_labels
from moola.labels.spans import NONE, ROLES, check_spans, has_spans, hidden_spans, whole_numbers
from moola.labels.table import LabelTable, are_times
from moola.labels.windows import LabelledWindows
from moola.settings.arrays import Numbers
from moola.settings.durations import parse_duration
from moola.settings.whole_numbers import whole_number
from moola.store.inspect.durations import format_duration
from moola.store.reader import FeatureStore
from moola.store.split_options import NAMES
from moola.store.stamps import full_minutes

__all__ = ["read_labels"]

SPAN_KINDS = ("bar", "row", "time")


def read_labels(
    labels: object,
    store: FeatureStore | str | os.PathLike[str],
    *,
    window_length: int | None = None,
    extra: Sequence[str] | str = (),
    columns: Mapping[str, str] | str | None = None,
    span_kind: Literal["bar", "row", "time"] | None = None,
    labelled_length: int | None = None,
    tz: str | None = None,
    time_format: str | None = None,
    stamp: Literal["open", "close"] | None = None,
    bar_interval: str | int | timedelta | None = None,
) -> LabelledWindows:
    """Reads labels of windows of a feature store, and takes the windows from the store.

    A label is a row with `window_end`, the last bar of its window, and `class`. It also needs `symbol`, unless the
    store has one symbol or bars are given by row. Optional columns are `start` and `end`, the first and last labelled
    bar, and `weight`. `moola make-bars --expansions` writes such a file. Include a class for windows without an
    expansion (for instance `none`, without a span): otherwise the model must assign every window to an expansion class.

    Bars are given by time or by row of the store. The bars of a span may also be numbers in the window, from 0. A file
    uses one kind for `window_end` and one for spans. Times are text in ISO 8601 with an offset, Arrow timestamps, or
    numbers of s, ms, µs or ns since 1970, which are larger than any row. The reader distinguishes rows from numbers in
    the window by where the spans would lie. It refuses a file for which both are possible; `span_kind` decides.

    Args:
        labels: A Parquet, CSV or Arrow IPC file, or any object with `__arrow_c_stream__`.
        store: The store, or its path.
        window_length: K; by default the store's. A window ends at its `window_end` for every K, and must contain its
            span.
        extra: Names of kept columns, appended to the features in this order.
        columns: From a file's column to its role, for columns with other names.
        span_kind: What the numbers in `start` and `end` are: `bar`, `row` or `time`.
        labelled_length: How many bars the windows had when they were labelled. Numbers of bars in the window are
            counted in it. Needed if K is not the store's window length.
        tz, time_format: How times are written, as for `moola.build_features`.
        stamp: Whether times are those at which bars `open` or `close`. Required if the store was built with
            `stamp="close"`.
        bar_interval: How long a bar is, such as `'1m'`. Needed with `stamp="close"` if the store does not know it.

    Returns:
        The windows, in the order of the file. Exact repeats of a row are dropped, and a notice says so.

    Raises:
        LabelError: invalid labels, each with its row and what is wrong.
        InputError: the input is no table of labels, or is ambiguous.
        ConfigError: an invalid option.
        StoreError: as `FeatureStore.open` raises it.
    """
    if not isinstance(store, FeatureStore):
        store = FeatureStore.open(store)
    length = store.window_length
    if window_length is not None:
        length = whole_number("window_length", window_length, 1, of="bars")
    if store.layout == "windows" and length != store.window_length:
        problem = f"{store.path} holds windows of {store.window_length} bars, not {length}"
        raise ConfigError("window_length", f"{problem}; build with --layout bars to have every length")
    if labelled_length is not None:
        labelled_length = whole_number("labelled_length", labelled_length, 1, of="bars")
    extra = parse_names("extra", extra)
    kept = store.extra_columns(extra)
    if span_kind is not None and span_kind not in SPAN_KINDS:
        raise ConfigError("span_kind", f"{span_kind!r} is not a kind of spans; give {', '.join(SPAN_KINDS)}")
    if stamp not in (None, "open", "close"):
        raise ConfigError("stamp", f"must be 'open' or 'close', not {stamp!r}")
    if bar_interval is not None:
        bar_interval = parse_duration(bar_interval, "bar_interval")
        known = {segment.bar_interval for segment in store.segments} - {0, bar_interval}
        if known:
            problem = f"is {format_duration(bar_interval)}, but bars of {store.path} are {format_duration(min(known))}"
            raise ConfigError("bar_interval", f"{problem} long; leave it out")
    table = LabelTable(
        labels,
        ("window_end", "class"),
        ("symbol", "start", "end", "weight"),
        columns=columns,
        tz=tz,
        time_format=time_format,
    )
    found = _Finder(table, store, length, stamp, time_format is not None, bar_interval)
    ends = found.window_ends()
    spans = found.spans(ends, span_kind, labelled_length)
    label = resolve_labels(table, found.refusals, ends, spans)

    ends, spans = ends[label.kept], spans[label.kept]
    starts = ends - (length - 1)
    x, valid = _windows(store, starts, length)
    if kept and store.extra is not None:
        x = np.concatenate([x, store.extra[starts[:, None] + np.arange(length)][:, :, kept]], axis=2)
    segment = np.searchsorted(store.bounds.first, ends, side="right") - 1
    names = [store.segments[i].symbol for i in segment.tolist()]
    times = store.timestamps
    return LabelledWindows(
        X=x,
        valid_mask=valid,
        y=label.y,
        classes=label.classes,
        spans=spans,
        weight=label.weight,
        symbols=np.array(names, np.str_),
        starts=starts,
        ends=ends,
        times=np.array(times[ends]),
        first_times=np.array(times[starts]),
        # Markets move together: one symbol carries information about another at the same time.
        groups=group_overlaps(times[starts], times[ends]),
        splits=_splits(store, starts, ends),
        feature_names=(*store.feature_names, *extra),
        feature_set=store.feature_set,
        parameters=store.config,
        window_length=length,
        store_id=store.id,
        notices=(*label.notices, *hidden_spans(label.kept, spans, valid)),
    )


def _windows(
    store: FeatureStore, starts: Numbers, length: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """`[n, K, D]` and `[n, K]`, copied out of the store; the store counts each of these windows."""
    if store.window_starts is not None:
        # The dense layout holds every window that counts.
        place = np.searchsorted(store.window_starts, starts)
        return np.array(store.features[place]), np.array(store.valid[place])
    rows = starts[:, None] + np.arange(length)
    return np.array(store.features[rows]), np.array(store.valid[rows])


def _splits(store: FeatureStore, starts: Numbers, ends: Numbers) -> NDArray[np.int8]:
    """`[n]`: the number of the split that holds all of a window's bars, −1 if no split does."""
    splits = np.full(len(starts), -1, np.int8)
    for number, name in enumerate(NAMES):
        ranges = store.splits[name].ranges
        if len(ranges):
            at = np.searchsorted(ranges[:, 0], starts, side="right") - 1
            splits[(at >= 0) & (ends < ranges[at, 1])] = number
    return splits


def _symbol_ranges(store: FeatureStore, told: int) -> dict[str, tuple[int, int, int]]:
    """Each symbol's first and last row, and the time from bar to bar. The segments of a symbol are adjacent."""
    ranges: dict[str, tuple[int, int, int]] = {}
    for segment in store.segments:
        first = ranges.get(segment.symbol, (segment.first_row,))[0]
        ranges[segment.symbol] = first, segment.last_row, segment.bar_interval or told
    return ranges


class _Finder:
    """Finds the bars of labels in a store."""

    def __init__(
        self,
        table: LabelTable,
        store: FeatureStore,
        length: int,
        stamp: str | None,
        formatted: bool,
        bar_interval: int | None,
    ) -> None:
        self.table, self.store, self.length = table, store, length
        self.refusals = Refusals(table.source, table.rows)
        self._stamp = stamp
        self._numbers = {
            role: table.numbers(role) for role in ("window_end", "start", "end") if table.has(role)
        }
        self._by_time = self._are_times("window_end") or formatted
        self._ranges = _symbol_ranges(store, bar_interval or 0)
        self._first, self._last, self._interval = self._symbols()

    def _are_times(self, role: str) -> bool:
        numbers = self._numbers[role]
        times = are_times(numbers)
        if times and numbers is not None and len(self.store) > EPOCH_FIRST:
            raise self.table.source.refusal(
                f"column {self.table.name(role)!r} has numbers that are both rows of the store and times",
                "Write the times as ISO 8601",
            )
        return times

    def _symbols(self) -> tuple[Numbers, Numbers, Numbers]:
        """`[rows]`: the first and last row of each label's symbol in the store, and the time from bar to bar."""
        table, rows = self.table, self.table.rows
        ranges = self._ranges
        only = next(iter(ranges)) if len(ranges) == 1 else None
        if not table.has("symbol"):
            if only is None:
                if not self._by_time:
                    # Rows identify the symbol.
                    return (
                        np.zeros(rows, np.int64),
                        np.full(rows, len(self.store) - 1),
                        np.zeros(rows, np.int64),
                    )
                raise table.source.refusal(
                    f"has no symbol column, and the store has {len(ranges):,} symbols",
                    "Give the symbol of each window, or name the column with --columns FILE_COLUMN=symbol",
                )
            names = [only] * rows
        else:
            # If the store has one symbol, an empty name means that one.
            names = [text or only or "" for text in table.texts("symbol")]
            unknown = np.array([name not in ranges for name in names])
            listed = ", ".join(repr(name) for name in list(ranges)[:5]) + (", …" if len(ranges) > 5 else "")
            self.refusals.add(
                "unknown_symbol", unknown, lambda row: f"{names[row] or 'no symbol'}; the store has {listed}"
            )
            self.refusals.symbols = names
        return self._of_symbols(names)

    def _of_symbols(self, names: Sequence[str]) -> tuple[Numbers, Numbers, Numbers]:
        found = np.array([self._ranges.get(name, (0, -1, 0)) for name in names], np.int64)
        return found[:, 0], found[:, 1], found[:, 2]

    # The windows

    def window_ends(self) -> Numbers:
        """`[rows]`: the row of each window's last bar; arbitrary in refused rows."""
        table, refusals, numbers = self.table, self.refusals, self._numbers["window_end"]

        text = partial(table.given, "window_end")
        if self._by_time or numbers is None:
            times = self._times("window_end")
            ends = self._rows_at(times)
            refusals.add("no_such_bar", ends < 0, partial(self._no_bar, "window_end", times))
        else:
            refusals.add("no_window_end", numbers == _core.TIME_NULL, text)
            refusals.add("bad_number", numbers <= _core.TIME_LOCAL, text)
            ends = numbers
            outside = (ends < self._first) | (ends > self._last)

            def where(row: int) -> str:
                whose = f" of {refusals.symbols[row]}" if refusals.symbols and refusals.symbols[row] else ""
                return f"{text(row)}; the bars{whose} are rows {self._first[row]:,} to {self._last[row]:,}"

            refusals.add("no_such_bar", outside, where)
            if not table.has("symbol"):
                segments = (
                    self.store.bounds.first.searchsorted(np.where(refusals.refused, 0, ends), "right") - 1
                )
                names = [self.store.segments[i].symbol for i in segments.tolist()]
                self._first, self._last, self._interval = self._of_symbols(names)
        return self._counting(np.where(refusals.refused, 0, ends), text)

    def _counting(self, ends: Numbers, text: Callable[[int], str]) -> Numbers:
        """Refuses windows that do not count, as the store's own would not."""
        first, _, first_valid = self.store.bounds
        segment = np.searchsorted(first, ends, side="right") - 1
        has, until_valid = ends - first[segment] + 1, first_valid[segment] - ends

        def time(row: int) -> str:
            return "" if self._by_time else f" ({format_time(int(self.store.timestamps[ends[row]]))})"

        self.refusals.add(
            "crosses_segment",
            has < self.length,
            lambda row: (
                f"{text(row)}{time(row)}; {has[row]:,} bars of its segment up to there, not {self.length:,}"
            ),
        )
        self.refusals.add(
            "in_warmup",
            until_valid > 0,
            lambda row: (
                f"{text(row)}{time(row)}; {has[row]:,} bars of its segment up to there are too few to warm up"
            ),
        )
        return ends

    # Spans

    def spans(self, ends: Numbers, kind: str | None, labelled: int | None) -> Numbers:
        """`[rows, 2]`: the first and last bar of each span in its window, −1 for none; anything where refused."""
        if not has_spans(self.table):
            return np.full((self.table.rows, 2), NONE)
        kind = self._span_kind(ends, kind, labelled)
        if kind == "time":
            rows, there = self._rows_of_times()
        else:
            start, end = (self._numbers[role] for role in ROLES)
            assert start is not None
            assert end is not None
            rows, there = whole_numbers(self.table, start, end, self.refusals)
            if kind == "bar" and there.any():
                rows = rows + (ends - (self._labelled(labelled) - 1))[:, None]
        begin = ends - (self.length - 1)
        spans = rows - begin[:, None]
        return check_spans(self.table, self.refusals, spans, there, self.length, _READ_AS[kind])

    def _span_kind(self, ends: Numbers, given: str | None, labelled: int | None) -> str:
        """The kind of `start` and `end` in the whole file: `bar`, `row` or `time`."""
        table = self.table
        names = " and ".join(repr(table.name(role)) for role in ROLES)
        start, end = self._numbers["start"], self._numbers["end"]
        if start is None or end is None:
            other = end if start is None else start
            if other is not None and (other > _core.TIME_LOCAL).any():
                raise table.source.refusal(
                    f"columns {names} are of two kinds, times and numbers", "Give both as the same"
                )
            if given in ("bar", "row"):
                raise ConfigError("span_kind", f"is {given}, but columns {names} are times; leave it out")
            return "time"
        if given is not None:
            return given
        if self._are_times("start") or self._are_times("end"):
            return "time"
        known = (start > _core.TIME_LOCAL) & (start != NONE) & (end > _core.TIME_LOCAL) & (end != NONE)
        some = np.flatnonzero(known & ~self.refusals.refused)
        if not len(some):
            return "bar"
        length = labelled or max(self.length, self.store.window_length)
        low, high = np.minimum(start, end)[some], np.maximum(start, end)[some]
        as_bars = (low >= 0) & (high < length)
        as_rows = (low > ends[some] - length) & (high <= ends[some])
        if as_bars.sum() == as_rows.sum():
            row = some[0]
            could = "may be" if as_bars.any() else "are neither"
            both = (
                "bars counted in the window, and rows of the store"
                if as_bars.any()
                else ("bars counted in the window, nor rows of it")
            )
            raise table.source.refusal(
                f"columns {names} {could} {both}: row {row + 1:,} has {start[row]} and {end[row]} in the window "
                f"of rows {ends[row] - length + 1} to {ends[row]}",
                "Say what they are with --span-kind bar, row or time (span_kind=)",
            )
        return "bar" if as_bars.sum() > as_rows.sum() else "row"

    def _labelled(self, given: int | None) -> int:
        """The length of the windows in which bars are counted."""
        if given is None and self.length != self.store.window_length:
            raise self.table.source.refusal(
                f"counts bars in windows that had {self.store.window_length} bars, as the store says, or "
                f"{self.length}, as --window-length does",
                "Give the length of the windows that were labelled with --labelled-length (labelled_length=)",
            )
        return self.length if given is None else given

    def _rows_of_times(self) -> tuple[Numbers, NDArray[np.bool_]]:
        """`[rows, 2]`: the first and last rows of spans, and whether each is given."""
        both = []
        for role in ROLES:
            times = self._times(role)
            there = times != _core.TIME_NULL
            rows = self._rows_at(times)
            self.refusals.add("span_no_bar", there & (rows < 0), partial(self._no_bar, role, times))
            both.append((rows, there))
        (first, has_first), (last, has_last) = both
        return np.stack([first, last], axis=1), np.stack([has_first, has_last], axis=1)

    def _no_bar(self, role: str, times: Numbers, row: int) -> str:
        return f"{self.table.given(role, row)}; {self._around(row, int(times[row]))}"

    # Times

    def _times(self, role: str) -> Numbers:
        """`[rows]`: the open times of a column's bars, or TIME_NULL. Other missing times are refused."""
        stamped = self.store.metadata["read_options"].get("stamp")
        if self._stamp is None and stamped == "close":
            raise ConfigError(
                "stamp",
                "is not given, and this store was built with --stamp close: its bars are known by their open times. "
                "Say close if labels have the times of the source, open if they have those of the store, with "
                "moola import-labels --stamp (stamp=)",
            )
        if self._stamp == "close" and not any(interval for _, _, interval in self._ranges.values()):
            raise ConfigError(
                "bar_interval",
                f"is missing: times are those of closes, and {self.store.path} does not know how long its bars are; "
                "give it with --bar-interval, such as 1m (bar_interval='1m')",
            )
        times = self.table.times(role)
        if role != "window_end" and (numbers := self._numbers[role]) is not None:
            times = np.where(numbers == NONE, _core.TIME_NULL, times)
        self.table.refuse_times(role, times, self.refusals, required=role == "window_end")
        if self._stamp != "close":
            return times
        return np.where(times > _core.TIME_LOCAL, full_minutes(times) - self._interval, times)

    def _rows_at(self, times: Numbers) -> Numbers:
        """`[rows]`: the bars of each label's symbol that open at these times, −1 if there is none."""
        rows = np.full(len(times), -1)
        for first in np.unique(self._first):
            of_symbol = np.flatnonzero((self._first == first) & (self._last >= first))
            if len(of_symbol):
                stretch = self.store.timestamps[first : self._last[of_symbol[0]] + 1]
                at = np.searchsorted(stretch, times[of_symbol])
                there = stretch[np.minimum(at, len(stretch) - 1)] == times[of_symbol]
                rows[of_symbol] = np.where(there, first + at, -1)
        return rows

    def _around(self, row: int, time: int) -> str:
        """The bars before and after a time without a bar."""
        first, last = int(self._first[row]), int(self._last[row])
        after = first + int(np.searchsorted(self.store.timestamps[first : last + 1], time))
        if after == first:
            return f"the first bar is at {format_time(int(self.store.timestamps[first]))}"
        before = format_time(int(self.store.timestamps[after - 1]))
        if after > last:
            return f"the last bar is at {before}"
        return f"the bars around it are at {before} and {format_time(int(self.store.timestamps[after]))}"


_READ_AS = {"bar": " as bars counted in the window", "row": " as rows of the store", "time": ""}
