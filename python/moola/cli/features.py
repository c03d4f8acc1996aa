"""The commands for bars and features: make sample bars, build a store, verify it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moola.cli.app import (
    Json,
    Progress,
    app,
    describe_file,
    format_bytes,
    print_facts,
    print_json,
)
from moola.cli.inspection import of_symbols, quality_in_words, size_of, symbols_of
from moola.cli.reading import (
    INPUT,
    TIME,
    AllowNonpositive,
    BarInterval,
    Columns,
    Decimal,
    Dedup,
    DropBadBars,
    ExcludeSymbols,
    MaxBad,
    OneSeries,
    ResetOnGap,
    SkipLines,
    Sort,
    SymbolFromName,
    Symbols,
    Thousands,
    TimeFormat,
    Zone,
)
from moola.errors import ConfigError
from moola.errors.base import format_time

if TYPE_CHECKING:
    from moola.store.reader import FeatureStore

__all__ = ["build_features", "make_bars", "verify_features"]

STORE, SPLITS = "The store", "Splits"


@app.command()
def make_bars(
    output: Annotated[
        str, typer.Argument(metavar="OUT", help="The file to write: .parquet, .csv or .csv.gz.")
    ],
    bars: Annotated[int, typer.Option(help="Number of bars of each symbol.")] = 1_818_450,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bars on every machine.")] = 17,
    symbols: Annotated[
        int | None,
        typer.Option(
            help="Number of symbols. They get a column symbol.", show_default="one, without that column"
        ),
    ] = None,
    expansions: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS",
            help="Plant directional surges (expansions), and write their labels to this file.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make a sample market of one-minute bars, to try moola without data of your own."""
    from moola.bars.market import make_bars

    started = time.perf_counter()
    with Progress(json) as progress:
        market = make_bars(
            output,
            bars,
            seed=seed,
            symbols=symbols,
            expansions=expansions,
            progress=lambda done, total: progress("bars", done, total),
        )
    took = time.perf_counter() - started
    if json:
        return print_json(market._asdict() | {"seconds": round(took, 4)})
    span = f"{format_time(market.first_timestamp)} to {format_time(market.last_timestamp)}"
    rows = [
        ("bars", f"{market.bars:,}{of_symbols(market.symbols)}, {span}"),
        ("file", describe_file(market.output)),
    ]
    if market.expansions is not None:
        rows.append(("labels", f"{market.labels:,} expansions in {describe_file(market.expansions)}"))
    print_facts([*rows, ("took", f"{took:.2f} s")])


@app.command()
def build_features(
    output: Annotated[
        str | None, typer.Option(metavar="STORE", help="The directory to make.", rich_help_panel=STORE)
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Read and judge the bars and report, without making a store. Temporary files go to $TMPDIR.",
            rich_help_panel=STORE,
        ),
    ] = False,
    bars: Annotated[
        list[str] | None, typer.Argument(metavar="BARS", help="Bars, as after --data.", show_default=False)
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BARS…",
            help="Files (Parquet, CSV, Arrow IPC, or ZIP of CSV), directories, or patterns such as 'lake/**/*.csv.gz'.",
        ),
    ] = None,
    feature_set: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="relativity10, relativity12, relative_transform11 or ohlc4.",
            rich_help_panel=STORE,
        ),
    ] = "relativity10",
    config: Annotated[
        str | None,
        typer.Option(
            metavar="YAML", help="A file of parameters that differ from the defaults.", rich_help_panel=STORE
        ),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            metavar="bars|windows",
            help="bars stores each bar once, for any window length. windows stores all windows of one length in full.",
            rich_help_panel=STORE,
        ),
    ] = "bars",
    window_length: Annotated[int, typer.Option(help="Bars in a window.", rich_help_panel=STORE)] = 105,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an existing store in one step.", rich_help_panel=STORE),
    ] = False,
    train_end: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Last day of train.", rich_help_panel=SPLITS)
    ] = None,
    val_end: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Last day of val.", rich_help_panel=SPLITS)
    ] = None,
    test_end: Annotated[
        str | None,
        typer.Option(
            metavar="YYYY-MM-DD",
            help="Last day of test.",
            show_default="the last day of the bars",
            rich_help_panel=SPLITS,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES",
            help="Shares of train, val and test, if no dates are given.",
            show_default="0.7,0.15,0.15",
            rich_help_panel=SPLITS,
        ),
    ] = None,
    embargo: Annotated[
        int, typer.Option(help="Bars to drop after each boundary, per symbol.", rich_help_panel=SPLITS)
    ] = 0,
    reset_on_gap: ResetOnGap = None,
    segment_by: Annotated[
        str,
        typer.Option(
            metavar="COLUMNS",
            help="symbol or symbol,contract. With contract, each roll of a continuous future begins a new segment.",
            rich_help_panel=INPUT,
        ),
    ] = "symbol",
    columns: Columns = None,
    keep: Annotated[
        str,
        typer.Option(
            metavar="COLUMNS", help="Other columns to store, such as volume.", rich_help_panel=INPUT
        ),
    ] = "",
    drop_bad_bars: DropBadBars = False,
    max_bad: MaxBad = 0.001,
    rejects: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Write every bar that is left out to this CSV file.", rich_help_panel=INPUT
        ),
    ] = None,
    dedup: Dedup = None,
    sort: Sort = False,
    allow_nonpositive: AllowNonpositive = False,
    skip_lines: SkipLines = 0,
    decimal: Decimal = None,
    thousands: Thousands = None,
    symbols: Symbols = "",
    exclude_symbols: ExcludeSymbols = "",
    symbol_from_name: SymbolFromName = None,
    one_series: OneSeries = False,
    tz: Zone = None,
    time_format: TimeFormat = None,
    stamp: Annotated[
        str | None,
        typer.Option(
            metavar="open|close",
            help="Whether timestamps are the open or the close of their bars.",
            show_default="open",
            rich_help_panel=TIME,
        ),
    ] = None,
    bar_interval: BarInterval = None,
    json: Json = False,
) -> None:
    """Build a feature store from bars: read, check, compute, publish."""
    from moola.store.build import build_features

    started = time.perf_counter()
    given = [*(data or []), *(bars or [])]
    if not given:
        raise ConfigError("data", "names no bars; give one file or several, such as --data bars.parquet")
    if output is None and not check:
        raise ConfigError("output", "names no directory to make; give one, or --check to make none")
    if output is not None and check:
        raise ConfigError("check", "makes no store; leave out --output, or --check")
    with Progress(json) as progress, _output_or_none(output) as made:
        store = build_features(
            given[0] if len(given) == 1 else given,
            made,
            feature_set=feature_set,
            config=_read_config(config),
            layout=layout,  # type: ignore[arg-type]
            window_length=window_length,
            train_end=train_end,
            val_end=val_end,
            test_end=test_end,
            split=_parse_shares(split),
            embargo=embargo,
            reset_on_gap=reset_on_gap,
            segment_by=segment_by,
            columns=columns,
            keep=keep,
            tz=tz,
            time_format=time_format,
            stamp=stamp,  # type: ignore[arg-type]
            bar_interval=bar_interval,
            overwrite=overwrite,
            drop_bad_bars=drop_bad_bars,
            max_bad=max_bad,
            rejects=rejects,
            dedup=dedup,  # type: ignore[arg-type]
            sort=sort,
            allow_nonpositive=allow_nonpositive,
            skip_lines=skip_lines,
            decimal=decimal,
            thousands=thousands,
            symbols=symbols,
            exclude_symbols=exclude_symbols,
            symbol_from_name=symbol_from_name,
            one_series=one_series,
            progress=progress,
        )
        took = time.perf_counter() - started
        # The metadata are written before the store is published, so they cannot hold how long publishing took.
        timings = store.metadata["timings"]
        publishing = round(max(took - sum(timings.values()), 0.0), 4)
        timings = timings | {"publish": publishing, "total": round(took, 4)}
        record = _build_record(store, timings)
    if json:
        return print_json(record | ({"path": None, "checked": True} if check else {}))
    _print_build(store, record, made=not check)


@contextmanager
def _output_or_none(output: str | None) -> Iterator[str]:
    """The directory to make; where there is none, one that is removed again."""
    if output is not None:
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="moola-check-") as folder:
        yield str(Path(folder, "store"))


@app.command()
def verify_features(
    feature_dir: Annotated[str, typer.Option(metavar="STORE", help="The store.")],
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="BARS…", help="The bars that the store was built from, to compare."),
    ] = None,
    skip_reproducibility: Annotated[
        bool,
        typer.Option(
            "--skip-reproducibility", help="Check files, ranges and splits without recomputing features."
        ),
    ] = False,
    samples: Annotated[
        int,
        typer.Option(
            min=0, help="How many windows to recompute bar by bar, and at how many places to test causality."
        ),
    ] = 5,
    json: Json = False,
) -> int:
    """Verify a store: recompute everything from its bars, and compare every bit."""
    from moola.store.verify.report import verify_features

    with Progress(json) as progress:
        report = verify_features(
            feature_dir,
            data[0] if data and len(data) == 1 else data or None,
            reproducibility=not skip_reproducibility,
            samples=samples,
            progress=lambda check, done, total: progress(f"checking {check}", done, total),
        )
    if json:
        checks = [asdict(check) for check in report.checks]
        print_json({"path": str(report.path), "ok": report.ok, "checks": checks})
    else:
        width = max(len(check.name) for check in report.checks)
        for check in report.checks:
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<{width}}  {check.detail}")
        failed = sum(not check.ok for check in report.checks)
        if failed:
            print(f"{failed} of {len(report.checks)} checks failed: do not train on {report.path};", end=" ")
            print("build it again, or restore it from a copy")
        else:
            print(f"{report.path} is sound")
    return 0 if report.ok else 1


# Options


def _read_config(path: str | None) -> dict[str, Any] | None:
    if path is None:
        return None
    from moola.settings.yaml import read_yaml

    return read_yaml(path)


def _parse_shares(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(share) for share in text.split(",")]
    except ValueError:
        raise ConfigError(
            "split", f"{text!r} is not three numbers; give shares such as 0.7,0.15,0.15"
        ) from None


# Output


def _build_record(store: FeatureStore, timings: Mapping[str, float]) -> dict[str, Any]:
    return {
        "path": store.path,
        "store_id": store.id,
        "feature_set": store.feature_set,
        "features": store.feature_names,
        "layout": store.layout,
        "window_length": store.window_length,
        "bars": len(store),
        "symbols": symbols_of(store),
        "segments": len(store.segments),
        "splits": {name: {"bars": s.bars, "windows": s.windows} for name, s in store.splits.items()},
        "quality": store.metadata["quality"],
        "timings": timings,
        "bytes": size_of(store),
        "notices": store.notices,
    }


def _store_in_words(store: FeatureStore, size: int) -> str:
    return f"{store.path}: {store.feature_set}, layout {store.layout}, {format_bytes(size)}"


def _times_in_words(store: FeatureStore) -> str:
    """How the sources write their times."""
    sources = store.metadata["sources"]
    kinds = list(dict.fromkeys(source["timestamp"] for source in sources))
    return "; ".join(kinds[:3]) + (f"; and {len(kinds) - 3} more" if len(kinds) > 3 else "")


def _print_build(store: FeatureStore, record: Mapping[str, Any], *, made: bool) -> None:
    from moola.store.intervals import interval_in_words

    segments = store.segments
    first = min(segment.first_timestamp for segment in segments)
    last = max(segment.last_timestamp for segment in segments)
    length = f"windows of {store.window_length} bars"
    print_facts(
        [
            (
                "bars",
                f"{len(store):,}{of_symbols(symbols_of(store))}, {format_time(first)} to {format_time(last)}",
            ),
            (
                "bar length",
                interval_in_words(store.metadata["quality"], store.metadata["read_options"]["bar_interval"]),
            ),
            ("segments", f"{len(segments):,}"),
            *(
                (name, f"{split.windows:,} {length} in {split.bars:,} bars")
                for name, split in store.splits.items()
            ),
            ("quality", quality_in_words(store.metadata["quality"])),
            ("times", _times_in_words(store)),
            ("took", ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in record["timings"].items())),
            ("store", _store_in_words(store, record["bytes"]) if made else "none was made, as --check asks"),
        ]
    )
    for notice in store.notices:
        print(f"note: {notice}")
