"""Builds a feature store from bars."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from moola import _core
from moola.bars.options import ReadOptions
from moola.bars.source import SourceFile, open_bars
from moola.files.cores import usable_cores
from moola.files.json import write_json
from moola.files.publishing import publishing
from moola.settings.engine import parameters
from moola.settings.feature_sets import check_set_name, describe_features
from moola.settings.whole_numbers import whole_number
from moola.store.ingest import IngestOptions, Progress, check_room_for_a_window, ingest
from moola.store.inspect.notice import break_notices
from moola.store.intervals import interval_notices
from moola.store.known_after import known_after
from moola.store.layout import CHECKSUMS, FORMAT_VERSION, METADATA, SPLITS, arrays_of, write_checksums
from moola.store.reader import FeatureStore
from moola.store.rejects import writing_rejects
from moola.store.split_options import SplitOptions
from moola.store.splits import make_splits

if TYPE_CHECKING:
    from moola.settings.features import FeatureConfig

__all__ = ["build_features"]


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
    bar_interval: str | int | timedelta | None = None,
    overwrite: bool = False,
    drop_bad_bars: bool = False,
    max_bad: float = 0.001,
    rejects: str | os.PathLike[str] | None = None,
    dedup: Literal["identical"] | None = None,
    sort: bool = False,
    allow_nonpositive: bool = False,
    skip_lines: int = 0,
    decimal: str | None = None,
    thousands: str | None = None,
    symbols: Sequence[str] | str = (),
    exclude_symbols: Sequence[str] | str = (),
    symbol_from_name: str | None = None,
    one_series: bool = False,
    progress: Progress | None = None,
) -> FeatureStore:
    """Builds a feature store from bars, and opens it.

    Args:
        bars: a path (Parquet, CSV, Arrow IPC, ZIP of CSV, a directory of them, or a pattern such as
            `lake/**/*.csv.gz`), several paths, or any object with `__arrow_c_stream__` (pyarrow, polars, pandas,
            DuckDB).
        output: the directory to make. It must not exist yet; with `overwrite` it may be an older store.
        feature_set, config: as for `compute_features`.
        layout: `bars` serves windows of any length. `windows` writes out every window of `window_length`, in W·K·D·4
            bytes, for programs that need that array.
        window_length: K, the default length of windows.
        train_end, val_end, test_end: last days of the splits, inclusive; in `tz` where it is given, else UTC. If
            `test_end` alone is not given, it is the last day of the bars.
        split: shares of train, val and test instead; 0.7, 0.15, 0.15 unless dates are given.
        embargo: bars of each symbol dropped after each boundary.
        reset_on_gap: a duration such as `'4h'`; a longer step between bars begins a new segment.
        segment_by: `symbol`, or `symbol,contract` to begin a new segment at each roll of a continuous future.
        columns, keep, tz, time_format, stamp: how to read the source: see `moola.bars.options.ReadOptions`.
        bar_interval: how long a bar is, such as `'1m'`. Inferred if not given: the largest step that divides at least
            99 % of all symbols' steps and occurs often (in 5 % of them, or 50 times in a row). Then 50 or more
            consecutive equal steps of another length are refused. Where no step fits, `stamp="close"` is refused.
        overwrite: replace an existing store, atomically.
        drop_bad_bars: leave out bars with a NaN or infinite value, and a few with impossible prices; each is a gap.
        max_bad: the share of bars that may have impossible prices with `drop_bad_bars`; 3 bars may always. More are
            refused, because the columns are probably wrong.
        rejects: a CSV file to write every bar to that is left out: file, row, line, symbol, time, reason, values.
        dedup: `identical` drops bars that repeat the one before exactly.
        sort: sort rows by time. All rows are held in memory.
        allow_nonpositive: take bars with zero or negative prices too, as of spreads and back-adjusted contracts.
            `relative_transform11` refuses it: it takes logarithms of prices.
        skip_lines, decimal, thousands: how text files are written: see `moola.bars.options.ReadOptions`.
        symbols, exclude_symbols: which symbols are read, as patterns such as `'ES*,NQ*'`.
        symbol_from_name, one_series: whether the names of files name symbols.
        progress: see `Progress`.

    Returns:
        The store. Its `notices` are lines that a person should read.

    Raises:
        BarError: bars cannot become features; each is named with its file, row, time and value.
        InputError: a source cannot be read as bars or changes while it is read, or it has too few bars for one window.
        ConfigError: an option is not valid.
        StoreError: `output` exists already, or the file system refuses.

    After an error nothing is left behind, and an existing store is unchanged.
    """
    started = time.perf_counter()
    report = progress or (lambda stage, done, total: None)
    features = describe_features(feature_set, config)
    _core.check_nonpositive(feature_set, allow_nonpositive)
    check_set_name("layout", layout, ("bars", "windows"))
    window_length = whole_number("window_length", window_length, 1, of="bars")
    read_options = ReadOptions(
        columns=columns,  # type: ignore[arg-type]
        keep=keep,  # type: ignore[arg-type]
        tz=tz,
        time_format=time_format,
        stamp=stamp or "open",
        segment_by=segment_by,  # type: ignore[arg-type]
        skip_lines=skip_lines,
        decimal=decimal,
        thousands=thousands,
        symbols=symbols,  # type: ignore[arg-type]
        exclude_symbols=exclude_symbols,  # type: ignore[arg-type]
        symbol_from_name=symbol_from_name,
        one_series=one_series,
    )
    if reset_on_gap is not None:
        from moola.settings.durations import parse_duration

        reset_on_gap = parse_duration(reset_on_gap)
    if bar_interval is not None:
        from moola.settings.durations import parse_duration

        bar_interval = parse_duration(bar_interval, "bar_interval")
    _core.load_numpy()
    ingest_options = IngestOptions(
        drop_bad_bars=drop_bad_bars,
        max_bad=max_bad,
        dedup=dedup,
        sort=sort,
        reset_on_gap=reset_on_gap,
        bar_interval=bar_interval,
        allow_nonpositive=allow_nonpositive,
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
        with writing_rejects(rejects, source) as left_out:
            closes = read_options.stamp == "close"
            rows, quality = ingest(source, folder, ingest_options, closes, report, left_out, feature_set)
        clock = timed("read", clock)

        report("features", 0, quality["bars"])
        check_room_for_a_window(rows, window_length)
        spans = [(row.first_row, row.rows) for row in rows]
        length = window_length if layout == "windows" else None
        engine_parameters = parameters(config)
        first_valid, written = _core.write_features(
            folder, spans, feature_set, engine_parameters, usable_cores(), length, allow_nonpositive
        )
        segments = [row.segment(valid) for row, valid in zip(rows, first_valid, strict=True)]
        report("features", quality["bars"], quality["bars"])
        clock = timed("features", clock)

        count = quality["bars"]
        timestamps = np.memmap(folder / "timestamps.npy", "<i8", "r", 128, (count,))
        splits = make_splits(timestamps, segments, split_options, window_length)
        known = known_after(folder, segments, feature_set, engine_parameters, allow_nonpositive)
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
        sources = [_source_record(file) for file in source.files]
        timed("check", clock)
        metadata = {
            "format_version": FORMAT_VERSION,
            "store_id": secrets.token_hex(16),
            "moola_version": _core.__version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "feature_set": feature_set,
            "features": [{"name": name, "low": low, "high": high} for name, low, high in features],
            "parameters": dict(
                zip(_core.parameter_names(), engine_parameters or _core.default_parameters(), strict=True)
            ),
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
    notices = _notices(stamp, splits.warnings, quality, len(segments), window_length)
    store.notices = [*source.notes, *notices, *break_notices(store)]
    return store


def _source_record(file: SourceFile) -> dict[str, Any]:
    """What the metadata say about a file that was read.

    The file is hashed after it was read. Its identity from before both shows that the hash is that of the bars read.
    """
    hashed = None
    if file.path is not None:
        file.check_unchanged()
        hashed = _core.hash_file(file.path)
        file.check_unchanged()
    return {"name": file.name, "rows": file.rows, "blake3": hashed, "timestamp": file.timestamp}


def _notices(
    stamp: str | None, warnings: list[str], quality: Mapping[str, Any], segments: int, window_length: int
) -> list[str]:
    notices = []
    if stamp is None:
        notices.append(
            "timestamps are taken as the open of each bar; if your feed stamps the close, every decision moves by a "
            "bar: build again with --stamp close (stamp='close')"
        )
    notices += warnings
    notices += interval_notices(quality)
    if short := quality["segments_shorter_than_window"]:
        notices.append(
            f"{short:,} of {segments:,} segments are shorter than {window_length} bars and give no window"
        )
    if jumps := quality["jumps_over_50_percent"]:
        move = "close moves" if jumps == 1 else "closes move"
        notices.append(
            f"{jumps:,} {move} more than 50 % from the close before; look for splits, rolls or bad prints"
        )
    return notices
