"""From bars to a feature store: read, check, compute, publish."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from moola import _core
from moola.bars import MAX_SAMPLES, BarSource, ReadOptions, open_bars
from moola.cores import usable_cores
from moola.errors import BarError, ConfigError, InputError, Problem
from moola.features import parameters
from moola.layout import CHECKSUMS, FORMAT_VERSION, METADATA, SPLITS, arrays_of, write_checksums, write_json
from moola.publish import publishing
from moola.splits import Segment, SplitOptions, make_splits
from moola.store import FeatureStore

if TYPE_CHECKING:
    from moola.config import FeatureConfig

__all__ = ["Progress", "build_features"]

Progress: TypeAlias = Callable[[str, int | None, int | None], None]
"""Called with the stage (`read`, `features`, `publish`), and how much is done of how much, where that is known."""

PARAMETERS = (
    "range_ema_period",
    "atr_period",
    "zigzag_k",
    "swing_time_scale",
    "zscore_period",
    "warmup_bars",
)


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """How rows are judged and cut into segments; part of what the metadata record."""

    drop_bad_bars: bool = False
    dedup: Literal["identical"] | None = None
    sort: bool = False
    reset_on_gap: int | None = None
    """Nanoseconds."""

    def __post_init__(self) -> None:
        if self.dedup not in (None, "identical"):
            raise ConfigError("dedup", f"{self.dedup!r} is not a way to drop repeats; give 'identical'")


def build_features(
    bars: Any,
    output: str | os.PathLike[str],
    *,
    feature_set: str = "relativity10",
    config: FeatureConfig | Mapping[str, Any] | None = None,
    layout: Literal["bars", "windows"] = "bars",
    window_length: int = 105,
    train_end: date | str | None = None,
    val_end: date | str | None = None,
    test_end: date | str | None = None,
    split: Sequence[float] | None = None,
    embargo: int = 0,
    reset_on_gap: str | int | timedelta | None = None,
    segment_by: Sequence[str] | str = ("symbol",),
    columns: Mapping[str, str] | str | None = None,
    keep: Sequence[str] | str = (),
    tz: str | None = None,
    time_format: str | None = None,
    stamp: Literal["open", "close"] | None = None,
    overwrite: bool = False,
    drop_bad_bars: bool = False,
    dedup: Literal["identical"] | None = None,
    sort: bool = False,
    progress: Progress | None = None,
) -> FeatureStore:
    """Builds a feature store from bars, and opens it.

    Args:
        bars: a path (Parquet, CSV, Arrow IPC, or a directory of them), several paths, or any object with
            `__arrow_c_stream__` (pyarrow, polars, pandas, DuckDB).
        output: the directory to make. Nothing may stand there, but with `overwrite` an older store.
        feature_set, config: as for `compute_features`.
        layout: `bars` serves windows of any length; `windows` writes every window of `window_length` out, in W·K·D·4
            bytes, for programs that want that array.
        window_length: K, the default length of windows.
        train_end, val_end, test_end: last days of the splits, inclusive; in `tz` where it is given, else UTC.
        split: shares of train, val and test instead; 0.7, 0.15, 0.15 unless dates are given.
        embargo: bars of each symbol dropped after each boundary.
        reset_on_gap: a duration such as `'4h'`; a longer step between bars begins a new segment.
        segment_by: `symbol`, or `symbol,contract` to begin a new segment at each roll of a continuous future.
        columns, keep, tz, time_format, stamp: how the source is to be read: see `moola.bars.ReadOptions`.
        overwrite: replace an existing store, atomically.
        drop_bad_bars: leave bars with a NaN or infinite value out; each becomes a gap.
        dedup: `identical` drops exact repeats of the bar before.
        sort: bring rows into order; all of them are held in memory.
        progress: see `Progress`.

    Returns:
        The store; its `notices` are lines that a person should read.

    Raises:
        BarError: bars that must not become features, each with its file, row, time and value.
        InputError: a source that cannot be read as bars, or too few bars for one window.
        ConfigError: an option that makes no sense.
        StoreError: something stands at `output`, or the file system refuses.

    Whatever is raised, nothing is left behind and an existing store is as it was.
    """
    started = time.perf_counter()
    report = progress or (lambda stage, done, total: None)
    features = describe_features(feature_set, config)
    _check_name("layout", layout, ("bars", "windows"))
    if isinstance(window_length, bool) or not isinstance(window_length, int) or window_length < 1:
        raise ConfigError("window_length", f"{window_length!r} is not a number of bars; give 1 or more")
    read_options = ReadOptions(
        columns=columns,  # type: ignore[arg-type]
        keep=keep,  # type: ignore[arg-type]
        tz=tz,
        time_format=time_format,
        stamp=stamp or "open",
        segment_by=segment_by,  # type: ignore[arg-type]
    )
    if reset_on_gap is not None:
        from moola.config import parse_duration

        reset_on_gap = parse_duration(reset_on_gap)
    _core.load_numpy()
    ingest_options = IngestOptions(
        drop_bad_bars=drop_bad_bars, dedup=dedup, sort=sort, reset_on_gap=reset_on_gap
    )
    split_options = SplitOptions(
        fractions=split,
        train_end=train_end,
        val_end=val_end,
        test_end=test_end,
        tz=tz or "UTC",
        embargo=embargo,
    )

    timings: dict[str, float] = {}

    def timed(stage: str, since: float) -> float:
        now = time.perf_counter()
        timings[stage] = round(now - since, 4)
        return now

    with publishing(output, overwrite=overwrite) as staging:
        folder = staging.path
        source = open_bars(bars, read_options)
        clock = timed("start", started)
        rows, quality = ingest(source, folder, ingest_options, read_options.stamp == "close", report)
        clock = timed("read", clock)

        report("features", 0, quality["bars"])
        _check_room_for_a_window(rows, window_length)
        spans = [(row.first_row, row.rows) for row in rows]
        length = window_length if layout == "windows" else None
        engine_parameters = parameters(config)
        first_valid, written = _core.write_features(
            folder, spans, feature_set, engine_parameters, usable_cores(), length
        )
        segments = [row.segment(valid) for row, valid in zip(rows, first_valid, strict=True)]
        report("features", quality["bars"], quality["bars"])
        clock = timed("features", clock)

        count = quality["bars"]
        timestamps = np.memmap(folder / "timestamps.npy", "<i8", "r", 128, (count,))
        splits = make_splits(timestamps, segments, split_options, window_length)
        known = known_after(folder, segments, feature_set, engine_parameters)
        short = sum(segment.last_row - segment.first_row + 1 < window_length for segment in segments)
        quality["segments_shorter_than_window"] = short
        file_hashes = {name: blake3 for name, _, _, _, blake3 in written}
        for name in ("timestamps.npy", *(["extra.npy"] if read_options.keep else [])):
            file_hashes[name] = _core.hash_file(folder / name)
        arrays = arrays_of(
            layout,
            bars=count,
            width=len(features),
            extra=len(read_options.keep),
            windows=written[0][1][0] if layout == "windows" else 0,
            window_length=window_length,
        )
        splits_bytes = write_json(folder / SPLITS, splits.record)
        sources = [
            {
                "name": file.name,
                "rows": file.rows,
                "blake3": None if file.path is None else _core.hash_file(file.path),
                "timestamp": file.timestamp,
            }
            for file in source.files
        ]
        timed("check", clock)
        metadata = {
            "format_version": FORMAT_VERSION,
            "store_id": secrets.token_hex(16),
            "moola_version": _core.__version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "feature_set": feature_set,
            "features": [{"name": name, "low": low, "high": high} for name, low, high in features],
            "parameters": dict(zip(PARAMETERS, engine_parameters or _core.default_parameters(), strict=True)),
            "layout": layout,
            "window_length": window_length,
            "files": {name: array.record() for name, array in arrays.items()}
            | {SPLITS: {"bytes": splits_bytes}},
            "segments": [segment._asdict() for segment in segments],
            "sources": sources,
            "read_options": read_options.record() | asdict(ingest_options),
            "quality": quality,
            "timings": timings,
            "known_after": known,
        }
        write_json(folder / METADATA, metadata)
        file_hashes |= {name: _core.hash_file(folder / name) for name in (METADATA, SPLITS)}
        write_checksums(folder / CHECKSUMS, file_hashes)
        del timestamps
        report("publish", None, None)
    store = FeatureStore.open(output)
    store.notices = _notices(stamp, splits.warnings, quality, len(segments), window_length)
    return store


def describe_features(
    feature_set: str, config: FeatureConfig | Mapping[str, Any] | None
) -> list[tuple[str, float | None, float | None]]:
    """Name and range of each feature. Raises `ConfigError` for a set that does not exist, naming the nearest."""
    _check_name("feature_set", feature_set, _core.feature_sets())
    return _core.describe_features(feature_set, parameters(config))


def _check_name(option: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        near = get_close_matches(str(value), known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ConfigError(option, f"there is no {value!r}{hint} Choose one of {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """A segment as ingest gives it, before its features say from where on it is valid."""

    symbol: str
    first_row: int
    rows: int
    first_timestamp: int
    last_timestamp: int
    bar_interval: int

    def segment(self, first_valid: int | None) -> Segment:
        """The segment, complete."""
        last_row = self.first_row + self.rows - 1
        times = (self.first_timestamp, self.last_timestamp, self.bar_interval)
        return Segment(self.symbol, self.first_row, last_row, *times, first_valid)


def ingest(
    source: BarSource, folder: Path, options: IngestOptions, stamped_at_close: bool, report: Progress
) -> tuple[list[SegmentRows], dict[str, Any]]:
    """Reads and checks all bars into `bars.npy`, `timestamps.npy` and `extra.npy` in `folder`.

    Returns the segments, in the order of the store, and the quality report. Raises `BarError` with everything wrong.
    """
    engine = _core.Ingest(
        folder,
        extra=list(source.keep),
        drop_bad_bars=options.drop_bad_bars,
        dedup_identical=options.dedup == "identical",
        sort=options.sort,
        reset_on_gap=options.reset_on_gap,
        stamped_at_close=stamped_at_close,
    )
    done = 0
    with closing(source.batches()) as batches:
        for batch in batches:
            engine.push(
                batch.file,
                batch.first_row,
                batch.timestamp,
                batch.open,
                batch.high,
                batch.low,
                batch.close,
                batch.extra,
                batch.rows,
                batch.symbol,
                batch.contract,
            )
            done += len(batch.timestamp)
            report("read", done, None)
    symbols = list(source.symbols) or [""]
    order = sorted(range(len(symbols)), key=symbols.__getitem__)
    if options.sort:
        engine.settle(order)
    _refuse(source, *engine.refusals())
    rows, quality = engine.finish(order)
    if not rows:
        raise InputError(
            f"all {quality['dropped_bad_bars']:,} bars have a NaN, null or infinite value",
            "Repair the source, or name the right columns with --columns FILE_COLUMN=ROLE",
            source=source.files[0].name if len(source.files) == 1 else None,
        )
    return [SegmentRows(symbols[code], *rest) for code, *rest in rows], quality


def _refuse(
    source: BarSource, counts: dict[str, int], samples: list[tuple[int, int | None, dict[str, Any]]]
) -> None:
    """Raises one error for all that the reader and the engine found wrong, with at most 20 samples."""
    counts = {**source.counts, **counts}
    if not counts:
        return
    found = list(source.samples)
    for file, code, facts in samples:
        symbol = source.symbols[code] if code is not None and source.symbols else None
        problem = Problem(**facts, file=source.label(file), symbol=symbol)
        found.append((file, replace(problem, row=problem.row + 1)))
    # The first of every kind comes before the second of any: many of one kind do not hide where another is.
    met: dict[str, int] = {}
    ranked = []
    for file, problem in found:
        met[problem.kind] = met.get(problem.kind, 0) + 1
        ranked.append((met[problem.kind], file, problem.row, problem))
    shown = sorted(ranked, key=itemgetter(0))[:MAX_SAMPLES]
    # In the order of the files, which are read again to find the lines.
    problems = [
        replace(problem, line=source.locate(file, row - 1))
        for _, file, row, problem in sorted(shown, key=itemgetter(1, 2))
    ]
    raise BarError(counts, problems)


def _check_room_for_a_window(rows: Sequence[SegmentRows], window_length: int) -> None:
    longest = max(row.rows for row in rows)
    if longest < window_length:
        many = f" in {len(rows):,} segments, the longest of {longest:,}," if len(rows) > 1 else ""
        raise InputError(
            f"{sum(row.rows for row in rows):,} bars{many} are fewer than one window of {window_length} bars",
            "Give more bars, or a smaller --window-length (window_length=)",
        )


# How `known_after` is measured: so many restarts, each compared over so many bars with what more history gives.
_RESTARTS, _HISTORY, _COMPARED, _TOLERANCE = 8, 2_000, 1_000, 1e-3


def known_after(
    folder: Path,
    segments: list[Segment],
    feature_set: str,
    engine_parameters: tuple[int, int, float, float, int, int] | None,
) -> dict[str, Any]:
    """Measures after how many bars each feature no longer depends on where the series began.

    The features are computed afresh from several places in the longest segment, and compared with those that
    2,000 bars more of history give: a feature counts as known from the bar on after which the two agree within 1e-3.
    """
    options: dict[str, Any] = {"feature_set": feature_set, "parameters": engine_parameters}
    names = [name for name, _, _ in _core.describe_features(feature_set, engine_parameters)]
    longest = max(segments, key=lambda segment: segment.last_row - segment.first_row)
    bars = longest.last_row - longest.first_row + 1
    history = min(_HISTORY, bars // 2)
    compared = min(_COMPARED, bars - history)
    mapped = np.memmap(folder / "bars.npy", "<f8", "r", 128, (segments[-1].last_row + 1, 4))
    places = {longest.first_row + k * (bars - history - compared) // _RESTARTS for k in range(_RESTARTS)}
    after = np.zeros(len(names), dtype=np.int64)
    for place in sorted(places):
        columns = np.ascontiguousarray(mapped[place : place + history + compared].T)
        full = _core.compute_features(*columns, **options)[history:]
        fresh = _core.compute_features(*columns[:, history:].copy(), **options)
        differs = np.abs(full.astype(np.float64) - fresh) > _TOLERANCE
        last = compared - np.argmax(differs[::-1], axis=0)
        after = np.maximum(after, np.where(differs.any(axis=0), last, 0))
    return {
        "restarts": len(places),
        "bars_compared": compared,
        "tolerance": _TOLERANCE,
        "features": {name: int(n) if n < compared else None for name, n in zip(names, after, strict=True)},
    }


def _notices(
    stamp: str | None, warnings: list[str], quality: Mapping[str, Any], segments: int, window_length: int
) -> list[str]:
    notices = []
    if stamp is None:
        notices.append(
            "timestamps are taken as the open of each bar; if your feed stamps the close, every decision would move "
            "by a bar: build again with --stamp close (stamp='close')"
        )
    notices += warnings
    if short := quality["segments_shorter_than_window"]:
        notices.append(
            f"{short:,} of {segments:,} segments are shorter than {window_length} bars and give no window"
        )
    if jumps := quality["jumps_over_50_percent"]:
        lie = "close lies" if jumps == 1 else "closes lie"
        notices.append(f"{jumps:,} {lie} more than 50 % from the close before: splits, rolls or bad prints?")
    return notices
