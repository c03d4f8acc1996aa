"""Verifying a feature store: everything that can be recomputed is, and compared to the bit."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moola import _core
from moola.bars import BarSource, ReadOptions, open_bars
from moola.build import PARAMETERS, IngestOptions, Progress, SegmentRows, ingest, known_after
from moola.cores import usable_cores
from moola.errors import ConfigError, MoolaError, StaleStoreError, format_time
from moola.layout import CHECKSUMS, METADATA, SPLITS, dump_checksums, dump_json, features_file, parse_json
from moola.splits import Rows, SplitOptions, count_windows, make_splits
from moola.store import FeatureStore

__all__ = ["Check", "VerificationReport", "verify_features"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked: what came out, in a sentence."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What `verify_features` found."""

    path: Path
    checks: list[Check]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)


class _FindingError(Exception):
    """A check's finding that ends it; the text says what is wrong, and where."""


def verify_features(
    path: str | os.PathLike[str],
    data: Any = None,
    *,
    reproducibility: bool = True,
    samples: int = 5,
    progress: Progress | None = None,
) -> VerificationReport:
    """Verifies a store by recomputing rather than trusting. One flipped bit anywhere in it fails.

    Args:
        path: the store.
        data: the bars it was built from, as for `build_features`: then they are read again, as the store says they
            were, and compared. This takes as much temporary disk space as they have bars, 40 bytes each.
        reproducibility: recompute every row, `samples` windows through the streaming path, and check causality.
        samples: how many windows go through the stream, and at how many places causality is tested; all windows
            where there are fewer.
        progress: called with the name of each check before it begins.

    Returns:
        The report. What is wrong with a store is in it, not raised. Each check stands on its own: that files have
        their hashes (`hashes`) says nothing about what else is checked, for hashes can be made anew.

    Raises:
        StoreMissingError: there is no store at `path`.
        StaleStoreError: the store was replaced, or moved away, while it was being verified.
        InputError: `data` cannot be read as bars.
        ConfigError: `samples` is not a number of windows.
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
        raise ConfigError("samples", f"{samples!r} is not a number of windows; give 0 or more")
    report = progress or (lambda stage, done, total: None)
    path = Path(path)
    try:
        store = FeatureStore.open(path)
    except FileNotFoundError:
        raise
    except MoolaError as error:
        return VerificationReport(path, [Check("opens", False, str(error))])
    what = f"{len(store):,} bars of {store.feature_set}, files of the right names and sizes"
    checks = [Check("opens", True, what)]
    steps: list[tuple[str, Callable[[FeatureStore], str]]] = [
        ("hashes", _hashes),
        ("json", _json),
        ("identity", _identity),
        ("ranges", _ranges),
        ("times", _times),
        ("quality", _quality),
        ("masks", _masks),
        ("splits", _splits),
    ]
    if reproducibility:
        steps += [
            ("recomputed", _recomputed),
            ("streamed", lambda store: _streamed(store, samples)),
            ("causal", lambda store: _causal(store, samples)),
        ]
    # Values that were tampered with may be any: comparing signalling NaNs is no reason for a warning.
    with store, np.errstate(all="ignore"):
        if data is not None:
            steps.append(("source", _source_check(store, data)))
        for number, (name, step) in enumerate(steps):
            report(name, number, len(steps))
            checks.append(_run(name, step, store))
            if store.is_stale:
                problem = "the store was replaced, or moved away, while it was being verified"
                raise StaleStoreError(store.path, problem, "Verify what is there now")
    return VerificationReport(path, checks)


def _run(name: str, step: Callable[[FeatureStore], str], store: FeatureStore) -> Check:
    try:
        return Check(name, True, step(store))
    except (_FindingError, MoolaError) as error:
        return Check(name, False, str(error))
    except OSError as error:
        if name == "source":
            # The bars cannot be read, or there is no space for them: that says nothing about the store.
            raise
        return Check(name, False, f"cannot be read: {error}")
    except Exception as error:
        # A store that was altered can break a check anywhere; the report says so instead of breaking off.
        return Check(name, False, f"cannot be checked: {type(error).__name__}: {error}")


# Files.


def _hashes(store: FeatureStore) -> str:
    expected = store.checksums()
    if set(expected) != set(store.files()) - {CHECKSUMS}:
        raise _FindingError(f"{CHECKSUMS} does not list every other file")
    found = {name: store.hash(name) for name in expected}
    wrong = [name for name in expected if found[name] != expected[name]]
    if wrong:
        raise _FindingError(f"{', '.join(wrong)}: not the BLAKE3 that {CHECKSUMS} has")
    if dump_checksums(found) != store.read_bytes(CHECKSUMS):
        raise _FindingError(f"{CHECKSUMS} is not, to the byte, what the files' hashes give")
    return f"BLAKE3 of {len(found)} files as written"


def _json(store: FeatureStore) -> str:
    for name in (METADATA, SPLITS):
        data = store.read_bytes(name)
        try:
            same = dump_json(parse_json(data)) == data
        except ValueError as error:
            raise _FindingError(f"{name}: {error}") from None
        if not same:
            raise _FindingError(f"{name} is not, to the byte, what its content is written as")
    return "canonical to the byte"


# What the metadata say.

_Parameters: TypeAlias = tuple[int, int, float, float, int, int]


def _identity(store: FeatureStore) -> str:
    metadata = store.metadata
    if set(store.config) != set(PARAMETERS):
        raise _FindingError(
            f"parameters are {', '.join(store.config)}; there should be {', '.join(PARAMETERS)}"
        )
    described = _core.describe_features(store.feature_set, _parameters(store))
    recorded = [(f["name"], f["low"], f["high"]) for f in metadata["features"]]
    if recorded != described:
        raise _FindingError(f"{store.feature_set} has features {described}, the metadata say {recorded}")
    read_options, options = _options(store)
    kept = 0 if store.extra is None else store.extra.shape[1]
    if len(read_options.keep) != kept:
        raise _FindingError(f"{len(read_options.keep)} columns were kept, extra.npy has {kept}")

    quality = metadata["quality"]
    dropped = quality["dropped_bad_bars"] + quality["dropped_duplicates"]
    rows = sum(source["rows"] for source in metadata["sources"])
    if rows - dropped != len(store) or min(quality["dropped_bad_bars"], quality["dropped_duplicates"]) < 0:
        raise _FindingError(
            f"sources of {rows:,} rows less {dropped:,} dropped do not give {len(store):,} bars"
        )
    if quality["dropped_bad_bars"] and not options.drop_bad_bars:
        raise _FindingError(f"{quality['dropped_bad_bars']:,} bad bars were dropped without drop_bad_bars")
    if quality["dropped_duplicates"] and options.dedup is None:
        raise _FindingError(f"{quality['dropped_duplicates']:,} repeats were dropped without dedup")
    return f"features, ranges and counts are those of {store.feature_set}"


def _parameters(store: FeatureStore) -> _Parameters:
    values = store.config
    return tuple(values[name] for name in PARAMETERS)


def _options(store: FeatureStore) -> tuple[ReadOptions, IngestOptions]:
    """How the metadata say that the source was read and its rows were judged."""
    recorded = store.metadata["read_options"]
    judged = {name: recorded[name] for name in IngestOptions.__dataclass_fields__}
    read_options = ReadOptions.from_record({k: v for k, v in recorded.items() if k not in judged})
    gap = judged["reset_on_gap"]
    if gap is not None and (type(gap) is not int or not 0 < gap < 1 << 63):
        raise _FindingError(f"reset_on_gap is {gap!r}, not a number of nanoseconds")
    return read_options, IngestOptions(**judged)


# What the arrays hold. They are read in pieces with plain reads, see `FeatureStore.read_rows`.

_PIECE = 1 << 17


def _pieces(length: int, step: int = _PIECE) -> list[slice]:
    return [slice(first, min(first + step, length)) for first in range(0, length, step)]


def _at(store: FeatureStore, row: int) -> str:
    """A row as messages name it, with its time."""
    return f"row {row:,} at {format_time(int(store.read_rows('timestamps.npy', row, row + 1)[0]))}"


def _ranges(store: FeatureStore) -> str:
    described = store.metadata["features"]
    ranges = [
        (-np.inf if f["low"] is None else f["low"], np.inf if f["high"] is None else f["high"])
        for f in described
    ]
    file = features_file(store.layout, len(ranges))
    outlier = _core.first_outlier(store.path / file, store.features.shape, ranges)
    if outlier is not None:
        place, value = outlier
        row, column = divmod(place, len(ranges))
        if store.layout == "bars":
            where = _at(store, row)
        else:
            where = f"bar {row % store.window_length} of window {row // store.window_length:,}"
        low, high = ranges[column]
        raise _FindingError(
            f"{file}: {store.feature_names[column]} is {value} in {where}, outside {low} … {high}"
        )
    for rows in _pieces(len(store)):
        bars = store.read_rows("bars.npy", rows.start, rows.stop)
        open, high, low, close = bars.T
        sound = (low >= 1.2e-38) & (high <= 3.4e38)
        sound &= (low <= open) & (open <= high) & (low <= close) & (close <= high)
        if not sound.all():
            row = int(np.argmin(sound))
            where = _at(store, rows.start + row)
            raise _FindingError(f"bars.npy: {where} is no bar: open, high, low, close = {bars[row].tolist()}")
        if store.extra is not None:
            sound = np.isfinite(store.read_rows("extra.npy", rows.start, rows.stop)).all(axis=1)
            if not sound.all():
                where = _at(store, rows.start + int(np.argmin(sound)))
                raise _FindingError(f"extra.npy: {where} has a value that is not finite")
    return "every value finite and in its range"


class _Symbols(NamedTuple):
    """The runs of segments of one symbol each."""

    first_row: Rows
    interval: Rows
    """The bar interval that their segments have."""
    of_segment: Rows
    """The number of each segment's run."""


def _symbols(store: FeatureStore) -> _Symbols:
    """Symbols stand together and ascend."""
    begins = []
    for i, segment in enumerate(store.segments):
        before = store.segments[i - 1] if i else None
        if before is None or segment.symbol > before.symbol:
            begins.append(i)
        elif segment.symbol < before.symbol:
            raise _FindingError(f"symbol {segment.symbol!r} comes after {before.symbol!r}")
        elif segment.bar_interval != before.bar_interval:
            raise _FindingError(f"symbol {segment.symbol!r} has segments of two bar intervals")
    of_segment = np.zeros(len(store.segments), dtype=np.int64)
    of_segment[begins[1:]] = 1
    interval = np.array([store.segments[i].bar_interval for i in begins], dtype=np.int64)
    return _Symbols(store.bounds.first[begins], interval, np.cumsum(of_segment))


class _Steps(NamedTuple):
    """A piece of the rows, and how each follows the one before it; all arrays have one value a row."""

    rows: slice
    times: NDArray[np.int64]
    before: NDArray[np.int64]
    """The time of the row before; for row 0 its own."""
    length: NDArray[np.uint64]
    """Nanoseconds since the row before, exact where time ascends, however far."""
    begins_segment: NDArray[np.bool_]
    begins_symbol: NDArray[np.bool_]


def _steps(store: FeatureStore, symbols: _Symbols) -> Iterator[_Steps]:
    last: NDArray[np.int64] | None = None
    for rows in _pieces(len(store)):
        times = store.read_rows("timestamps.npy", rows.start, rows.stop)
        before = np.concatenate([times[:1] if last is None else last, times[:-1]])
        length = times.view(np.uint64) - before.view(np.uint64)
        begins_segment, begins_symbol = (
            _marks(first, rows) for first in (store.bounds.first, symbols.first_row)
        )
        yield _Steps(rows, times, before, length, begins_segment, begins_symbol)
        last = times[-1:]


def _marks(places: Rows, rows: slice) -> NDArray[np.bool_]:
    """Which of the rows are among the places, which ascend."""
    begin, end = np.searchsorted(places, [rows.start, rows.stop])
    marks = np.zeros(rows.stop - rows.start, dtype=np.bool_)
    marks[places[begin:end] - rows.start] = True
    return marks


def _times(store: FeatureStore) -> str:
    read_options, options = _options(store)
    longest = np.uint64((1 << 63) if options.reset_on_gap is None else options.reset_on_gap)
    bounds, segments = store.bounds, store.segments
    for steps in _steps(store, _symbols(store)):
        rows = steps.rows
        for places, name in ((bounds.first, "first_timestamp"), (bounds.end - 1, "last_timestamp")):
            begin, end = np.searchsorted(places, [rows.start, rows.stop])
            said = np.array([getattr(segment, name) for segment in segments[begin:end]], dtype=np.int64)
            different = steps.times[places[begin:end] - rows.start] != said
            if different.any():
                i = begin + int(np.argmax(different))
                said_so = format_time(getattr(segments[i], name))
                raise _FindingError(f"{_at(store, places[i])} should be {said_so} by {name} of segment {i:,}")
        within = ~steps.begins_symbol
        backward = within & (steps.times <= steps.before)
        long = steps.length > longest
        missed = within & long & ~steps.begins_segment
        cut = within & ~long & steps.begins_segment
        if "contract" in read_options.segment_by:
            cut[:] = False
        for wrong, problem in (
            (backward, "is not later than the row before"),
            (missed, "comes after a gap that should have begun a segment"),
            (cut, "begins a segment, but no gap or contract is why"),
        ):
            if wrong.any():
                raise _FindingError(f"{_at(store, rows.start + int(np.argmax(wrong)))} {problem}")
    return f"ascending in each of {len(segments):,} segments, which begin where they should"


def _quality(store: FeatureStore) -> str:
    """Counts again what the quality report counts, and which step is each symbol's commonest."""
    read_options, options = _options(store)
    symbols = _symbols(store)
    usual = np.zeros(len(symbols.first_row), dtype=np.int64)
    others: dict[tuple[int, int], int] = {}
    zero_range = jumps = short_cuts = 0
    symbol_before, close_before = -1, np.ones(1)
    for steps in _steps(store, symbols):
        within = ~steps.begins_symbol
        symbol = symbol_before + np.cumsum(steps.begins_symbol)
        is_usual = steps.length == symbols.interval[symbol].view(np.uint64)
        usual += np.bincount(symbol[within & is_usual], minlength=len(usual))
        unusual = np.flatnonzero(within & ~is_usual)
        _count(others, symbol[unusual], steps.length[unusual])
        if options.reset_on_gap is not None:
            short_cuts += int((within & steps.begins_segment & (steps.length <= options.reset_on_gap)).sum())
        _, high, low, close = store.read_rows("bars.npy", steps.rows.start, steps.rows.stop).T
        zero_range += int((high == low).sum())
        change = np.abs(close / np.concatenate([close_before, close[:-1]]) - 1)
        jumps += int((within & (change > 0.5)).sum())
        symbol_before, close_before = int(symbol[-1]), close[-1:]

    commonest = list(zip(usual.tolist(), (-symbols.interval).tolist(), strict=True))
    for (number, step), count in others.items():
        commonest[number] = max(commonest[number], (count, -step))
    for number, (_, step) in enumerate(commonest):
        if -step != symbols.interval[number]:
            name = store.segments[int(np.searchsorted(symbols.of_segment, number))].symbol
            which = f" of symbol {name!r}" if name else ""
            raise _FindingError(
                f"bar_interval{which} is {symbols.interval[number]} ns, but its commonest step is {-step} ns"
            )
    lengths = [step for _, step in others] + [int(symbols.interval[i]) for i in np.flatnonzero(usual)]
    shorter = store.bounds.end - store.bounds.first < store.window_length
    quality = store.metadata["quality"]
    recounted = {
        "bars": len(store),
        "zero_range_bars": zero_range,
        "gaps": sum(n for (s, step), n in others.items() if step > symbols.interval[s]),
        "short_steps": sum(n for (s, step), n in others.items() if step < symbols.interval[s]),
        "longest_step": max(lengths, default=0),
        "jumps_over_50_percent": jumps,
        "segments_shorter_than_window": int(shorter.sum()),
    }
    for key, count in recounted.items():
        if quality[key] != count:
            raise _FindingError(f"quality: {key} is {quality[key]!r}, the bars give {count:,}")
    cuts = len(store.segments) - len(symbols.first_row)
    by_contract, by_gap = quality["segments_from_contracts"], quality["segments_from_gaps"]
    if by_contract + by_gap != cuts or min(by_contract - short_cuts, by_gap) < 0:
        raise _FindingError(
            f"quality: {by_contract} + {by_gap} segments of contracts and gaps, there are {cuts}"
        )
    if (by_contract and "contract" not in read_options.segment_by) or (
        by_gap and options.reset_on_gap is None
    ):
        raise _FindingError(
            f"quality: {by_contract} and {by_gap} segments of contracts and gaps without such a rule"
        )
    return f"{recounted['gaps']:,} gaps, {zero_range:,} zero-range bars and {jumps:,} jumps counted again"


def _count(counts: dict[tuple[int, int], int], symbol: Rows, step: NDArray[np.uint64]) -> None:
    """Adds how often each step occurs in each symbol."""
    if len(step) == 0:
        return
    order = np.lexsort((step, symbol))
    symbol, step = symbol[order], step[order]
    new = np.flatnonzero((symbol[1:] != symbol[:-1]) | (step[1:] != step[:-1])) + 1
    firsts = np.concatenate([[0], new])
    times = np.diff(firsts, append=len(step))
    for key, n in zip(
        zip(symbol[firsts].tolist(), step[firsts].tolist(), strict=True), times.tolist(), strict=True
    ):
        counts[key] = counts.get(key, 0) + n


class _Windows(NamedTuple):
    """All windows that count, numbered in order: the dense layout has them, and samples are drawn from them."""

    first: Rows
    """The first window of each segment."""
    ends: Rows
    """The number of windows up to each segment's end."""

    def __len__(self) -> int:
        return int(self.ends[-1])

    def find(self, numbers: Rows) -> tuple[Rows, Rows]:
        """Segments and first rows of windows."""
        segments = np.searchsorted(self.ends, numbers, side="right")
        before = np.concatenate([[0], self.ends[:-1]])
        return segments, self.first[segments] + numbers - before[segments]


def _windows(store: FeatureStore) -> _Windows:
    length, bounds = store.window_length, store.bounds
    first = np.maximum(bounds.first, bounds.first_valid - (length - 1))
    counts = np.maximum(bounds.end - length + 1 - first, 0)
    # A segment without a valid bar has none.
    counts[bounds.first_valid == bounds.end] = 0
    return _Windows(first, np.cumsum(counts))


def _masks(store: FeatureStore) -> str:
    """A bar is valid from its segment's first valid row on, which the warm-up comes before."""
    bounds = store.bounds
    warmup = _parameters(store)[-1]
    early = (bounds.first_valid < bounds.end) & (bounds.first_valid < bounds.first + warmup)
    if early.any():
        i = int(np.argmax(early))
        raise _FindingError(
            f"segment {i:,} is valid from row {bounds.first_valid[i]:,} on, within its {warmup:,} bars of warm-up"
        )
    if store.layout == "bars":
        for rows in _pieces(len(store)):
            # As bytes: a mask that is neither 0 nor 1 is wrong too.
            stored = store.read_rows("valid.npy", rows.start, rows.stop).view(np.uint8)
            row = np.arange(rows.start, rows.stop)
            wrong = stored != (
                row >= bounds.first_valid[np.searchsorted(bounds.first, row, side="right") - 1]
            )
            if wrong.any():
                i = int(np.argmax(wrong))
                raise _FindingError(
                    f"valid.npy: {_at(store, rows.start + i)} has {stored[i]}, not {1 - stored[i]}"
                )
        return "every bar valid from its segment's first valid row on"
    windows = _windows(store)
    if len(windows) != len(store.valid):
        raise _FindingError(f"there are {len(store.valid):,} windows, but {len(windows):,} count")
    offsets = np.arange(store.window_length)
    for rows in _pieces(len(windows), max(1, 8 * _PIECE // store.window_length)):
        segments, starts = windows.find(np.arange(rows.start, rows.stop))
        wrong = store.read_rows("window_starts.npy", rows.start, rows.stop) != starts
        if wrong.any():
            i = int(np.argmax(wrong))
            raise _FindingError(
                f"window_starts.npy: window {rows.start + i:,} should start at row {starts[i]:,}"
            )
        stored = store.read_rows("valid_mask.npy", rows.start, rows.stop).view(np.uint8)
        wrong = (stored != (starts[:, None] + offsets >= bounds.first_valid[segments, None])).any(axis=1)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise _FindingError(
                f"valid_mask.npy: window {rows.start + i:,} is not valid from its segment's first valid row on"
            )
    return "every window that counts, valid from its segment's first valid row on"


def _splits(store: FeatureStore) -> str:
    """Chronological, disjoint in bars, with the right counts; and what the recorded options give once more.

    Ranges that overlap within a split, or leave the store, do not open.
    """
    # The few times that are looked at are mapped; this makes sure that they are there.
    store.read_rows("timestamps.npy", len(store) - 1, len(store))
    taken = np.zeros(0, dtype=np.int64).reshape(-1, 2)
    latest: int | None = None
    for name, split in store.splits.items():
        ranges = split.ranges
        windows = count_windows(store, ranges, store.window_length)
        if split.windows != windows:
            raise _FindingError(f"{name} has {windows:,} windows, not {split.windows:,}")
        both = np.concatenate([taken, ranges])
        both = both[np.argsort(both[:, 0], kind="stable")]
        overlap = both[1:, 0] < both[:-1, 1]
        if overlap.any():
            row = int(both[1:][overlap][0, 0])
            raise _FindingError(f"{name} shares bars with an earlier split, the first is {_at(store, row)}")
        taken = both
        if len(ranges):
            # Time ascends within a segment: a split's first and last times stand where its ranges or segments meet.
            begins = np.concatenate([ranges[:, 0], _inside(store.bounds.first, ranges)])
            ends = np.concatenate([ranges[:, 1], _inside(store.bounds.end, ranges)]) - 1
            earliest = int(store.timestamps[begins].min())
            if latest is not None and earliest <= latest:
                raise _FindingError(
                    f"{name} begins at {format_time(earliest)}, but the split before it ends at {format_time(latest)}"
                )
            latest = int(store.timestamps[ends].max())
    record = parse_json(store.read_bytes(SPLITS))
    again = make_splits(store.timestamps, store.segments, _split_options(record), store.window_length).record
    if dump_json(record) != dump_json(again):
        raise _FindingError(f"{SPLITS}: {_difference(record, again)} from the options that it records")
    counts = ", ".join(f"{name} {split.windows:,}" for name, split in store.splits.items())
    return f"chronological, disjoint, and what their options give; windows: {counts}"


def _inside(rows: Rows, ranges: Rows) -> Rows:
    """Those rows that lie strictly inside one of the ranges."""
    place = np.searchsorted(ranges[:, 0], rows, side="right") - 1
    inside = (place >= 0) & (rows > ranges[place, 0]) & (rows < ranges[place, 1])
    kept: Rows = rows[inside]
    return kept


def _split_options(record: Mapping[str, Any]) -> SplitOptions:
    if record["method"] == "fractions":
        return SplitOptions(fractions=record["fractions"], embargo=record["embargo"])
    days = {name: record[name] for name in ("train_end", "val_end", "test_end")}
    return SplitOptions(**days, tz=record["tz"], embargo=record["embargo"])


def _difference(stored: Any, again: Any, where: str = "") -> str:
    """Where two values of JSON differ first: what is stored, and what comes out."""
    if isinstance(stored, dict) and isinstance(again, dict) and list(stored) == list(again):
        for key in stored:
            if dump_json(stored[key]) != dump_json(again[key]):
                return _difference(stored[key], again[key], f"{where}.{key}" if where else key)
    if isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        for i, (one, other) in enumerate(zip(stored, again, strict=True)):
            if dump_json(one) != dump_json(other):
                return _difference(one, other, f"{where}[{i}]")
    shown = (repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}…" for value in (stored, again))
    return "{} is {}, but {} comes out".format(where or "it", *shown)


# What can be computed again.


def _plan(store: FeatureStore) -> tuple[Path, list[tuple[int, int]], str, _Parameters]:
    spans = [(s.first_row, s.last_row - s.first_row + 1) for s in store.segments]
    return store.path, spans, store.feature_set, _parameters(store)


def _dense(store: FeatureStore) -> tuple[int, int] | None:
    """Length and number of windows, in the dense layout."""
    return None if store.layout == "bars" else (store.window_length, len(store.features))


def _recomputed(store: FeatureStore) -> str:
    dense = _dense(store)
    found = _core.verify_features(*_plan(store), usable_cores(), dense)
    what = "rows" if dense is None else "windows"
    for name in ("features", "masks", "starts"):
        count, first = found[name]
        if count:
            raise _FindingError(
                f"{count:,} {what} of {name} differ from what the bars give, the first in "
                f"{_recomputed_difference(store, name, *first)}"
            )
    for i, (segment, first_valid) in enumerate(zip(store.segments, found["first_valid"], strict=True)):
        if segment.first_valid != first_valid:
            raise _FindingError(
                f"first_valid of segment {i:,} is {segment.first_valid}, but {first_valid} comes out of the bars"
            )
    recorded = store.metadata["known_after"]
    again = known_after(store.path, store.segments, store.feature_set, _parameters(store))
    if dump_json(recorded) != dump_json(again):
        raise _FindingError(f"known_after: {_difference(recorded, again)}")
    return f"all {found['compared']:,} {what} from the bars, to the bit"


def _recomputed_difference(
    store: FeatureStore, name: str, row: int, column: int, stored: float, computed: float
) -> str:
    width = len(store.feature_names) if name == "features" else 1
    place, column = divmod(column, width)
    where = _at(store, row) if store.layout == "bars" else f"window {row:,}, bar {place}"
    file = {
        "features": features_file(store.layout, width),
        "masks": "valid.npy" if store.layout == "bars" else "valid_mask.npy",
        "starts": "window_starts.npy",
    }[name]
    feature = f", {store.feature_names[column]}" if name == "features" else ""
    return f"{file}, {where}{feature}: {stored!r} is stored, {computed!r} comes out"


def _sample(store: FeatureStore, samples: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Number, segment and first row of windows drawn from all that count, ascending."""
    windows = _windows(store)
    if len(windows) == 0:
        raise _FindingError(f"no window of {store.window_length:,} bars counts")
    numbers = np.sort(rng.choice(len(windows), min(samples, len(windows)), replace=False, shuffle=False))
    segments, starts = windows.find(numbers)
    return list(zip(numbers.tolist(), segments.tolist(), starts.tolist(), strict=True))


def _streamed(store: FeatureStore, samples: int) -> str:
    length = store.window_length
    drawn = _sample(store, samples, np.random.default_rng())
    places = [
        (segment, start, start if store.layout == "bars" else number * length)
        for number, segment, start in drawn
    ]
    count, first = _core.verify_streamed(*_plan(store), places, length, _dense(store))
    if first is not None:
        row, column, stored, computed = first
        raise _FindingError(
            f"{count:,} of {len(places):,} windows differ when their bars are pushed one by one, the first in "
            f"{_at(store, row)}, {store.feature_names[column]}: {stored!r} is stored, {computed!r} comes out"
        )
    return f"{len(places):,} windows pushed bar by bar, saved and restored on the way, to the bit"


# Rows compared before each cut, and bars of the made-up future after it.
_NEAR, _FUTURE = 1 << 13, 5_000


def _causal(store: FeatureStore, samples: int) -> str:
    """Computes up to a cut, once with nothing after it and once with a made-up future, and compares with the store."""
    length, width = store.window_length, len(store.feature_names)
    file = features_file(store.layout, width)
    rng = np.random.default_rng()
    drawn = _sample(store, samples, rng)
    stream, row, last_segment = None, 0, -1
    checked = 0
    for number, index, start in drawn:
        segment, cut = store.segments[index], start + length
        if stream is None or index != last_segment:
            stream, row = _core.FeatureStream(store.feature_set, _parameters(store)), segment.first_row
            last_segment = index
        # In large steps to some way before the cut. The bars from there on are pushed in one call, across the cut.
        near = max(row, cut - max(_NEAR, length))
        for rows in _pieces(near - row):
            stream.push_many(*_columns(store, row + rows.start, row + rows.stop))
        row = near
        before = _columns(store, near, cut)
        state = stream.state()
        removed = _restored(store, state).push_many(*before)
        future = _made_up(float(before[3, -1]), rng)
        rewritten = _restored(store, state).push_many(*np.concatenate([before, future], axis=1))[: cut - near]
        if removed.tobytes() != rewritten.tobytes():
            raise _FindingError(f"features before {_at(store, cut - 1)} change when the bars after it do")
        if store.layout == "bars":
            stored = store.read_rows(file, near, cut)
        else:
            stored = store.read_rows(file, number, number + 1)[0]
        # As integers, so that they are compared by their bits.
        differ = (removed[-len(stored) :].view(np.int32) != stored.view(np.int32)).any(axis=1)
        if differ.any():
            where = _at(store, cut - len(stored) + int(np.argmax(differ)))
            raise _FindingError(
                f"the features of {where} differ from those that come out when no bar after {_at(store, cut - 1)} "
                "is known"
            )
        checked += len(stored)
    return f"{checked:,} rows before {len(drawn):,} cuts are the same with the future removed and rewritten"


def _columns(store: FeatureStore, first: int, end: int) -> NDArray[np.float64]:
    """Four contiguous columns of bars."""
    return np.ascontiguousarray(store.read_rows("bars.npy", first, end).T)


def _restored(store: FeatureStore, state: bytes) -> _core.FeatureStream:
    stream = _core.FeatureStream(store.feature_set, _parameters(store))
    stream.restore(state)
    return stream


def _made_up(close: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Bars that might have followed a close: a walk of 1 % a bar, within the prices that bars may have."""
    walk = np.clip(close * np.exp(np.cumsum(rng.normal(0, 0.01, _FUTURE))), 2.4e-38, 1.7e38)
    spread = walk * rng.uniform(0, 0.01, _FUTURE)
    return np.stack([walk, walk + spread, walk - spread, walk])


# What the source says.


def _source_check(store: FeatureStore, data: Any) -> Callable[[FeatureStore], str]:
    """Opens the source at once: where it cannot be, that is to be known before everything else has been checked."""
    try:
        read_options, options = _options(store)
    except Exception as error:
        problem = f"the options that it was read with make no sense: {error}"

        def fail(store: FeatureStore) -> str:
            raise _FindingError(problem)

        return fail
    source = open_bars(data, read_options)
    return lambda store: _source(store, source, options)


def _source(store: FeatureStore, source: BarSource, options: IngestOptions) -> str:
    names = ["timestamps.npy", "bars.npy", *(["extra.npy"] if store.extra is not None else [])]
    with tempfile.TemporaryDirectory(prefix="moola-verify-") as folder:
        given = Path(folder)
        stamped_at_close = store.metadata["read_options"]["stamp"] == "close"
        segments, quality = ingest(source, given, options, stamped_at_close, lambda *_: None)
        different = [name for name in names if _core.hash_file(given / name) != store.hash(name)]
        if different:
            raise _FindingError(_first_difference(store, given, names, quality["bars"]))
    for i, (stored, again) in enumerate(zip(store.segments, segments, strict=False)):
        if stored != again.segment(stored.first_valid):
            raise _FindingError(f"the source gives {_span(again)} as segment {i:,}, not {_span(stored)}")
    if len(segments) != len(store.segments):
        raise _FindingError(f"the source gives {len(segments):,} segments, not {len(store.segments):,}")
    recorded = {name: store.metadata["quality"].get(name) for name in quality}
    if recorded != quality:
        raise _FindingError(f"quality: {_difference(recorded, quality)} of the source")
    files = ", ".join(file.name for file in source.files[:3]) + (", …" if len(source.files) > 3 else "")
    return f"bars, times and kept columns are those of {files}"


def _span(segment: Any) -> str:
    last = segment.first_row + segment.rows - 1 if isinstance(segment, SegmentRows) else segment.last_row
    name = f" of {segment.symbol!r}" if segment.symbol else ""
    times = f"{format_time(segment.first_timestamp)} to {format_time(segment.last_timestamp)}"
    return f"rows {segment.first_row:,} to {last:,}{name}, {times}"


def _first_difference(store: FeatureStore, given: Path, names: list[str], bars: int) -> str:
    """In words, the first row at which what the source gives is not what the store has."""
    counts = "" if bars == len(store) else f"; it has {bars:,} bars, the store {len(store):,}"
    common = min(bars, len(store))
    arrays = {name: np.load(given / name, mmap_mode="r") for name in names}
    for rows in _pieces(common):
        found = []
        for place, name in enumerate(names):
            stored = store.read_rows(name, rows.start, rows.stop)
            differs = (stored != arrays[name][rows]).reshape(len(stored), -1).any(axis=1)
            if differs.any():
                found.append((int(np.argmax(differs)), place))
        if found:
            row, place = min(found)
            name, row = names[place], rows.start + row
            both = [x.tolist() for x in (store.read_rows(name, row, row + 1)[0], arrays[name][row])]
            if name == "timestamps.npy":
                both = [format_time(time) for time in both]
            return f"{name}: {_at(store, row)} is {both[0]}, the source says {both[1]}{counts}"
    if bars < len(store):
        return f"the source ends before {_at(store, bars)}{counts}"
    if bars > len(store):
        time = format_time(int(arrays["timestamps.npy"][common]))
        return f"the source goes on after the store's last row, with row {common:,} at {time}{counts}"
    return "the source's values are those of the store, but not its bytes"
