"""Verifying a feature store: everything that can be recomputed is, and compared to the bit."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moola import _core
from moola.bars import ReadOptions, open_bars
from moola.build import PARAMETERS, IngestOptions, Progress, ingest
from moola.errors import MoolaError, format_time
from moola.features import FeatureStream
from moola.layout import CHECKSUMS, METADATA, SPLITS, dump_checksums, dump_json, parse_json
from moola.splits import Rows, count_windows
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
        data: the bars it was built from, as for `build_features`; then `bars.npy` is compared with them too.
        reproducibility: recompute every row, `samples` windows through the streaming path, and check causality.
        samples: how many windows go through the stream, and how many places causality is tested at.
        progress: called with the name of each check before it begins.

    Returns:
        The report. What is wrong with a store is in it, not raised.

    Raises:
        StoreMissingError: there is no store at `path`.
        InputError: `data` cannot be read as bars.
    """
    report = progress or (lambda stage, done, total: None)
    path = Path(path)
    try:
        store = FeatureStore.open(path)
    except FileNotFoundError:
        raise
    except MoolaError as error:
        return VerificationReport(path, [Check("opens", False, str(error))])
    checks = [
        Check(
            "opens", True, f"{len(store):,} bars of {store.feature_set}, files of the right names and sizes"
        )
    ]
    steps: list[tuple[str, Callable[[FeatureStore], str]]] = [
        ("hashes", _hashes),
        ("json", _json),
        ("identity", _identity),
        ("ranges", _ranges),
        ("times", _times),
        ("splits", _splits),
    ]
    if reproducibility:
        steps += [
            ("recomputed", _recomputed),
            ("streamed", lambda store: _streamed(store, samples)),
            ("causal", lambda store: _causal(store, samples)),
        ]
    if data is not None:
        steps.append(("source", lambda store: _source(store, data)))
    with store:
        for number, (name, step) in enumerate(steps):
            report(name, number, len(steps))
            try:
                checks.append(Check(name, True, step(store)))
            except _FindingError as found:
                checks.append(Check(name, False, str(found)))
            except (MoolaError, ValueError, KeyError, TypeError, OSError) as error:
                if name == "source":
                    raise
                # A store that was altered can break a check anywhere; the report says so instead of breaking off.
                checks.append(Check(name, False, f"could not be checked: {type(error).__name__}: {error}"))
    return VerificationReport(path, checks)


def _hashes(store: FeatureStore) -> str:
    expected = store.checksums()
    found = {name: store.hash(name) for name in expected}
    wrong = [name for name in expected if found[name] != expected[name]]
    if wrong:
        raise _FindingError(f"{', '.join(wrong)} differ from what was written")
    if dump_checksums(found) != store.read_bytes(CHECKSUMS):
        raise _FindingError(f"{CHECKSUMS} is not what the files' hashes give")
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


def _identity(store: FeatureStore) -> str:
    described = _core.describe_features(store.feature_set, _parameters(store))
    recorded = [(f["name"], f["low"], f["high"]) for f in store.metadata["features"]]
    if recorded != described:
        raise _FindingError(f"{store.feature_set} has features {described}, the metadata say {recorded}")
    quality = store.metadata["quality"]
    if quality["bars"] != len(store):
        raise _FindingError(f"the quality report speaks of {quality['bars']} bars, there are {len(store)}")
    bars = sum(source["rows"] for source in store.metadata["sources"])
    dropped = quality["dropped_bad_bars"] + quality["dropped_duplicates"]
    if bars - dropped != len(store):
        raise _FindingError(f"sources of {bars} rows less {dropped} dropped do not give {len(store)} bars")
    return f"features, ranges and counts are those of {store.feature_set}"


def _pieces(length: int, step: int = 1 << 18) -> list[slice]:
    return [slice(first, min(first + step, length)) for first in range(0, length, step)]


def _ranges(store: FeatureStore) -> str:
    features = store.features
    described = store.metadata["features"]
    low = np.array([-np.inf if f["low"] is None else f["low"] for f in described])
    high = np.array([np.inf if f["high"] is None else f["high"] for f in described])
    step = (1 << 18) if features.ndim == 2 else max(1, (1 << 18) // features.shape[1])
    for rows in _pieces(len(features), step):
        values = features[rows].reshape(-1, features.shape[-1])
        bad = ~(np.isfinite(values) & (values >= low) & (values <= high))
        if bad.any():
            row, column = np.argwhere(bad)[0]
            name, value = store.feature_names[column], values[row, column]
            raise _FindingError(
                f"{name} is {value} in row {rows.start + row}, outside {low[column]} … {high[column]}"
            )
    for rows in _pieces(len(store)):
        open, high_, low_, close = store.bars[rows].T
        bad = ~(
            (low_ > 0)
            & (low_ <= open)
            & (open <= high_)
            & (low_ <= close)
            & (close <= high_)
            & (high_ < 3.5e38)
        )
        if bad.any():
            row = rows.start + int(np.argmax(bad))
            raise _FindingError(f"bars.npy: row {row} is no bar: {store.bars[row].tolist()}")
        if store.extra is not None and not np.isfinite(store.extra[rows]).all():
            raise _FindingError("extra.npy has a value that is not finite")
    return "every value finite and in its range"


def _times(store: FeatureStore) -> str:
    timestamps = store.timestamps
    gap = store.metadata["read_options"]["reset_on_gap"]
    for segment in store.segments:
        first, last = segment.first_row, segment.last_row
        if (timestamps[first], timestamps[last]) != (segment.first_timestamp, segment.last_timestamp):
            raise _FindingError(
                f"the segment at row {first} does not begin and end at the times that the metadata give"
            )
        for rows in _pieces(last - first, 1 << 20):
            steps = np.diff(timestamps[first + rows.start : first + rows.stop + 1])
            if (steps <= 0).any():
                row = first + rows.start + int(np.argmax(steps <= 0)) + 1
                raise _FindingError(
                    f"row {row} at {format_time(int(timestamps[row]))} is not later than the row before"
                )
            if gap is not None and (steps > gap).any():
                row = first + rows.start + int(np.argmax(steps > gap)) + 1
                raise _FindingError(f"row {row} comes after a gap that should have begun a segment")
    return f"ascending in each of {len(store.segments):,} segments"


def _splits(store: FeatureStore) -> str:
    """Chronological, disjoint in bars, with the right counts; ranges that overlap or leave the store do not open."""
    taken = np.zeros(0, dtype=np.int64).reshape(-1, 2)
    latest: int | None = None
    for name, split in store.splits.items():
        ranges = split.ranges
        if split.windows != count_windows(store, ranges, store.window_length):
            raise _FindingError(
                f"{name} has {count_windows(store, ranges, store.window_length)} windows, not {split.windows}"
            )
        both = np.concatenate([taken, ranges])
        both = both[np.argsort(both[:, 0], kind="stable")]
        if (both[1:, 0] < both[:-1, 1]).any():
            raise _FindingError(f"{name} shares bars with an earlier split")
        taken = both
        if len(ranges):
            # Time ascends within a segment: a split's first and last times stand where its ranges or segments meet.
            begins = np.concatenate([ranges[:, 0], _inside(store.bounds.first, ranges)])
            ends = np.concatenate([ranges[:, 1], _inside(store.bounds.end, ranges)]) - 1
            earliest = int(store.timestamps[begins].min())
            if latest is not None and earliest <= latest:
                raise _FindingError(
                    f"{name} begins at {format_time(earliest)}, before the split before it ends"
                )
            latest = int(store.timestamps[ends].max())
    counts = ", ".join(f"{name} {split.windows:,}" for name, split in store.splits.items())
    return f"chronological and disjoint; windows: {counts}"


def _inside(rows: Rows, ranges: Rows) -> Rows:
    """Those rows that lie strictly inside one of the ranges."""
    place = np.searchsorted(ranges[:, 0], rows, side="right") - 1
    inside = (place >= 0) & (rows > ranges[place, 0]) & (rows < ranges[place, 1])
    kept: Rows = rows[inside]
    return kept


def _parameters(store: FeatureStore) -> tuple[int, int, float, float, int, int]:
    values = store.config
    return tuple(values[name] for name in PARAMETERS)


def _plan(
    store: FeatureStore,
) -> tuple[Path, list[tuple[int, int]], str, tuple[int, int, float, float, int, int]]:
    spans = [(s.first_row, s.last_row - s.first_row + 1) for s in store.segments]
    return store.path, spans, store.feature_set, _parameters(store)


def _recomputed(store: FeatureStore) -> str:
    windows = None if store.layout == "bars" else (store.window_length, len(store.features))
    found = _core.verify_features(*_plan(store), len(os.sched_getaffinity(0)), windows)
    what = "row" if windows is None else "window"
    for name, file in (("features", "features"), ("masks", "the mask"), ("starts", "the start")):
        count, first = found[name]
        if count:
            row, column, stored, computed = first
            raise _FindingError(
                f"{count:,} {what}s of {file} differ from what the bars give, "
                f"the first at {what} {row}, place {column}: {stored!r} is stored, {computed!r} comes out"
            )
    if found["first_valid"] != [segment.first_valid for segment in store.segments]:
        raise _FindingError("the segments' first valid rows in the metadata are not those that the bars give")
    return f"all {found['compared']:,} {what}s from the bars, to the bit"


def _streamed(store: FeatureStore, samples: int) -> str:
    length = store.window_length
    rng = np.random.default_rng()
    starts = _sample_starts(store, samples, rng)
    for segment, start in starts:
        streamed = _core.stream_window(*_plan(store), segment, start, length)
        if streamed.tobytes() != store.window(start, length).tobytes():
            raise _FindingError(f"the window at row {start} differs when its bars are pushed one by one")
    return f"{len(starts)} windows pushed bar by bar, saved and restored on the way, to the bit"


def _sample_starts(store: FeatureStore, samples: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Segment and first row of windows drawn from all windows that count, of any segment."""
    length, bounds = store.window_length, store.bounds
    first = np.maximum(bounds.first, bounds.first_valid - (length - 1))
    counts = np.maximum(bounds.end - length + 1 - first, 0)
    counts[bounds.first_valid == bounds.end] = 0
    ends = np.cumsum(counts)
    drawn = np.sort(rng.integers(0, ends[-1], samples))
    segments = np.searchsorted(ends, drawn, side="right")
    return [(int(s), int(first[s] + w - (ends[s] - counts[s]))) for s, w in zip(segments, drawn, strict=True)]


def _causal(store: FeatureStore, samples: int) -> str:
    """Computes up to a cut, once with nothing after it and once with a made-up future, and compares with the store."""
    length = store.window_length
    rng = np.random.default_rng()
    cuts = _sample_starts(store, samples, rng)
    checked = 0
    for index, start in cuts:
        segment, cut = store.segments[index], start + length
        # Far before the cut in large steps; what is then pushed in one call contains the cut.
        near = max(segment.first_row, cut - (1 << 16))
        stream = FeatureStream(store.feature_set, store.config)
        for rows in _pieces(near - segment.first_row):
            place = slice(segment.first_row + rows.start, segment.first_row + rows.stop)
            stream.push_many(*np.ascontiguousarray(store.bars[place].T))
        state = stream.state()
        before = np.ascontiguousarray(store.bars[near:cut].T)
        removed = stream.push_many(*before)
        close = before[3, -1] * np.exp(np.cumsum(rng.normal(0, 0.01, 5_000)))
        spread = close * rng.uniform(0, 0.01, 5_000)
        made_up = np.stack([close, close + spread, np.maximum(close - spread, close * 0.5), close])
        rewritten = FeatureStream.from_state(state).push_many(*np.concatenate([before, made_up], axis=1))[
            : cut - near
        ]
        if removed.tobytes() != rewritten.tobytes():
            raise _FindingError(f"features before row {cut} change when the bars from there on do")
        stored = store.features[near:cut] if store.layout == "bars" else store.window(start, length)
        if removed[-len(stored) :].tobytes() != stored.tobytes():
            raise _FindingError(f"features before row {cut} differ when there are no later bars")
        checked += len(stored)
    return f"{checked:,} rows before {len(cuts)} cuts are the same with the future removed and rewritten"


def _source(store: FeatureStore, data: Any) -> str:
    recorded = store.metadata["read_options"]
    judged = {name: recorded[name] for name in IngestOptions.__dataclass_fields__}
    options = ReadOptions.from_record({name: value for name, value in recorded.items() if name not in judged})
    source = open_bars(data, options)
    names = ["bars.npy", "timestamps.npy", *(["extra.npy"] if options.keep else [])]
    with tempfile.TemporaryDirectory(prefix="moola-verify-") as folder:
        rows, _ = ingest(
            source, Path(folder), IngestOptions(**judged), options.stamp == "close", lambda *_: None
        )
        spans = [(row.symbol, row.first_row, row.first_row + row.rows - 1, row.bar_interval) for row in rows]
        if spans != [(s.symbol, s.first_row, s.last_row, s.bar_interval) for s in store.segments]:
            bars = sum(row.rows for row in rows)
            raise _FindingError(
                f"the source gives {bars:,} bars in {len(rows):,} segments, not those of the store"
            )
        different = [name for name in names if _core.hash_file(Path(folder) / name) != store.hash(name)]
        if different:
            raise _FindingError(_first_difference(store, Path(folder), different[0]))
    return f"bars, times and kept columns are those of {', '.join(file.name for file in source.files[:3])}"


def _first_difference(store: FeatureStore, folder: Path, name: str) -> str:
    stored = {"bars.npy": store.bars, "timestamps.npy": store.timestamps, "extra.npy": store.extra}[name]
    assert stored is not None
    given = np.load(folder / name, mmap_mode="r")
    for rows in _pieces(len(stored)):
        differs = (stored[rows] != given[rows]).reshape(len(stored[rows]), -1).any(axis=1)
        if differs.any():
            row = rows.start + int(np.argmax(differs))
            time = format_time(int(store.timestamps[row]))
            return f"{name}: row {row} at {time} is {stored[row].tolist()}, the source says {given[row].tolist()}"
    return f"{name} has the source's values, but not its bytes"
