"""The commands that make features: sample bars, building, verifying, inspecting."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
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
    print_table,
)
from moola.errors import ConfigError
from moola.errors.base import format_time

if TYPE_CHECKING:
    from moola.store.inspect.summary import Inspection
    from moola.store.reader import FeatureStore

__all__ = ["build_features", "inspect", "make_bars", "verify_features"]

INPUT, TIME, STORE, SPLITS = "Reading bars", "Reading times", "The store", "Splits"

ResetOnGap = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="A longer step between bars begins a new segment, such as 4h; `moola inspect` suggests one.",
        rich_help_panel=INPUT,
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="FILE_COLUMN=ROLE,…",
        help="Which column is what; in a CSV without header by number: 0=timestamp,1=open,…",
        rich_help_panel=INPUT,
    ),
]
DropBadBars = Annotated[
    bool,
    typer.Option(
        "--drop-bad-bars",
        help="Leave bars with NaN or infinite values out; each becomes a gap.",
        rich_help_panel=INPUT,
    ),
]
Dedup = Annotated[
    str | None,
    typer.Option(metavar="identical", help="Drop exact repeats of the bar before.", rich_help_panel=INPUT),
]
Sort = Annotated[
    bool,
    typer.Option("--sort", help="Bring bars into order; all are held in memory.", rich_help_panel=INPUT),
]
Zone = Annotated[
    str | None,
    typer.Option(metavar="ZONE", help="Of local times, such as America/New_York.", rich_help_panel=TIME),
]
TimeFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT", help="How times are written, such as '%d.%m.%Y %H:%M'.", rich_help_panel=TIME
    ),
]


@app.command()
def make_bars(
    output: Annotated[
        str, typer.Argument(metavar="OUT", help="The file to write: .parquet, .csv or .csv.gz.")
    ],
    bars: Annotated[int, typer.Option(help="Bars of each symbol.")] = 1_818_450,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bars on every machine.")] = 17,
    symbols: Annotated[
        int | None, typer.Option(help="How many symbols; a column says which.", show_default="one, unnamed")
    ] = None,
    expansions: Annotated[
        str | None,
        typer.Option(metavar="LABELS", help="Plant directional surges, and write where to this file."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a sample market of one-minute bars, to try everything without a data vendor."""
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
        ("bars", f"{market.bars:,}{_of_symbols(market.symbols)}, {span}"),
        ("file", describe_file(market.output)),
    ]
    if market.expansions is not None:
        rows.append(("labels", f"{market.labels:,} expansions in {describe_file(market.expansions)}"))
    print_facts([*rows, ("took", f"{took:.2f} s")])


@app.command()
def build_features(
    data: Annotated[
        list[str],
        typer.Option(
            metavar="BARS",
            help="Parquet, CSV, Arrow IPC, or a directory of them; may be given again.",
        ),
    ],
    output: Annotated[
        str, typer.Option(metavar="STORE", help="The directory to make.", rich_help_panel=STORE)
    ],
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
        typer.Option(metavar="YAML", help="Parameters that differ from the defaults.", rich_help_panel=STORE),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            metavar="bars|windows",
            help="bars serves windows of any length; windows writes out all of one length.",
            rich_help_panel=STORE,
        ),
    ] = "bars",
    window_length: Annotated[int, typer.Option(help="Bars in a window.", rich_help_panel=STORE)] = 105,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an older store, atomically.", rich_help_panel=STORE)
    ] = False,
    train_end: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Last day of train.", rich_help_panel=SPLITS)
    ] = None,
    val_end: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Last day of val.", rich_help_panel=SPLITS)
    ] = None,
    test_end: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Last day of test.", rich_help_panel=SPLITS)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES",
            help="Shares of train, val and test instead.",
            show_default="0.7,0.15,0.15",
            rich_help_panel=SPLITS,
        ),
    ] = None,
    embargo: Annotated[
        int, typer.Option(help="Bars of each symbol dropped after each boundary.", rich_help_panel=SPLITS)
    ] = 0,
    reset_on_gap: ResetOnGap = None,
    segment_by: Annotated[
        str,
        typer.Option(
            metavar="COLUMNS",
            help="symbol, or symbol,contract to begin afresh at the rolls of a continuous future.",
            rich_help_panel=INPUT,
        ),
    ] = "symbol",
    columns: Columns = None,
    keep: Annotated[
        str,
        typer.Option(
            metavar="COLUMNS", help="Columns to keep beside the bars, such as volume.", rich_help_panel=INPUT
        ),
    ] = "",
    drop_bad_bars: DropBadBars = False,
    dedup: Dedup = None,
    sort: Sort = False,
    tz: Zone = None,
    time_format: TimeFormat = None,
    stamp: Annotated[
        str | None,
        typer.Option(
            metavar="open|close",
            help="Which time of a bar its timestamp is.",
            show_default="open",
            rich_help_panel=TIME,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Build a feature store from bars: read, check, compute, publish."""
    from moola.store.build import build_features

    started = time.perf_counter()
    with Progress(json) as progress:
        store = build_features(
            data[0] if len(data) == 1 else data,
            output,
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
            overwrite=overwrite,
            drop_bad_bars=drop_bad_bars,
            dedup=dedup,  # type: ignore[arg-type]
            sort=sort,
            progress=progress,
        )
    took = time.perf_counter() - started
    # What the metadata cannot hold: the time from their being written to the store's standing under its name.
    timings = store.metadata["timings"]
    timings = timings | {"publish": round(max(took - sum(timings.values()), 0.0), 4), "total": round(took, 4)}
    if json:
        return print_json(_build_record(store, timings))
    _print_build(store, timings)


@app.command()
def verify_features(
    feature_dir: Annotated[str, typer.Option(metavar="STORE", help="The store.")],
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="BARS", help="The bars it was built from, to compare with; may be given again."),
    ] = None,
    skip_reproducibility: Annotated[
        bool,
        typer.Option("--skip-reproducibility", help="Check files, ranges and splits, but recompute nothing."),
    ] = False,
    samples: Annotated[
        int, typer.Option(min=0, help="Windows to push bar by bar, and cuts to test causality at.")
    ] = 5,
    json: Json = False,
) -> int:
    """Verify a store: everything is recomputed from its bars, and compared to the bit."""
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


@app.command()
def inspect(
    store: Annotated[str, typer.Argument(metavar="STORE", help="The store.")],
    json: Json = False,
) -> None:
    """Show what is in a store: features, segments, splits, gaps, and the --reset-on-gap they suggest."""
    from moola.store.inspect.summary import inspect_store

    inspection = inspect_store(store)
    if json:
        return print_json(inspection.as_dict())
    _print_inspection(inspection)


# What the options say


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


# What comes out


def _build_record(store: FeatureStore, timings: Mapping[str, float]) -> dict[str, Any]:
    return {
        "path": store.path,
        "store_id": store.id,
        "feature_set": store.feature_set,
        "features": store.feature_names,
        "layout": store.layout,
        "window_length": store.window_length,
        "bars": len(store),
        "symbols": _symbols(store),
        "segments": len(store.segments),
        "splits": {name: {"bars": s.bars, "windows": s.windows} for name, s in store.splits.items()},
        "quality": store.metadata["quality"],
        "timings": timings,
        "bytes": _size(store),
        "notices": store.notices,
    }


def _print_build(store: FeatureStore, timings: Mapping[str, float]) -> None:
    segments = store.segments
    first = min(segment.first_timestamp for segment in segments)
    last = max(segment.last_timestamp for segment in segments)
    length = f"windows of {store.window_length} bars"
    print_facts(
        [
            (
                "bars",
                f"{len(store):,}{_of_symbols(_symbols(store))}, {format_time(first)} to {format_time(last)}",
            ),
            ("segments", f"{len(segments):,}"),
            *(
                (name, f"{split.windows:,} {length} in {split.bars:,} bars")
                for name, split in store.splits.items()
            ),
            ("quality", _quality(store.metadata["quality"])),
            ("took", ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in timings.items())),
            (
                "store",
                f"{store.path}: {store.feature_set}, layout {store.layout}, {format_bytes(_size(store))}",
            ),
        ]
    )
    for notice in store.notices:
        print(f"note: {notice}")


def _quality(quality: Mapping[str, Any]) -> str:
    """What was noticed about the bars; what did not occur is left out, but for gaps."""
    from moola.store.inspect.durations import format_duration

    gaps = f"{quality['gaps']:,} gaps"
    if quality["gaps"]:
        gaps += f" (the longest step {format_duration(quality['longest_step'])})"
    words = {
        "zero_range_bars": "zero-range bars",
        "short_steps": "steps shorter than the bar interval",
        "jumps_over_50_percent": "jumps of more than 50 %",
        "dropped_bad_bars": "bad bars dropped",
        "dropped_duplicates": "repeats dropped",
    }
    return ", ".join([gaps, *(f"{quality[name]:,} {what}" for name, what in words.items() if quality[name])])


def _symbols(store: FeatureStore) -> list[str]:
    return [symbol for symbol in dict.fromkeys(segment.symbol for segment in store.segments) if symbol]


def _of_symbols(symbols: Sequence[str]) -> str:
    if not symbols:
        return ""
    names = ", ".join(symbols[:5]) + (", …" if len(symbols) > 5 else "")
    return f" of {len(symbols):,} symbol{'s' if len(symbols) > 1 else ''} ({names})"


def _size(store: FeatureStore) -> int:
    return sum((store.path / name).stat().st_size for name in store.files())


def _print_inspection(inspection: Inspection) -> None:
    from moola.store.inspect.durations import format_duration
    from moola.store.inspect.gaps import describe_gap

    def number(x: float | None) -> str:
        return "-" if x is None else f"{x:.4g}"

    def when(nanoseconds: int | None) -> str:
        return "-" if nanoseconds is None else format_time(nanoseconds)

    quality = inspection.quality
    symbols = _of_symbols(inspection.symbols)
    span = f"{when(inspection.first_timestamp)} to {when(inspection.last_timestamp)}"
    sources = ", ".join(source["name"] for source in inspection.sources[:3])
    more = f" and {len(inspection.sources) - 3:,} more" if len(inspection.sources) > 3 else ""
    interval = format_duration(inspection.segments[0].bar_interval)
    options = {
        name: value
        for name, value in inspection.read_options.items()
        if value not in (None, False, [], ["symbol"])
    }
    if (gap := options.get("reset_on_gap")) is not None:
        options["reset_on_gap"] = format_duration(gap)
    print_facts(
        [
            ("store", f"{inspection.path}: layout {inspection.layout}, {format_bytes(inspection.bytes)}"),
            ("id", inspection.store_id),
            ("built", f"{inspection.created} by moola {inspection.moola_version} from {sources}{more}"),
            ("read with", ", ".join(f"{name}={value}" for name, value in options.items())),
            (
                "bars",
                f"{inspection.bars:,}{symbols}, {inspection.valid_bars:,} past the warm-up, every {interval}",
            ),
            ("time", span),
            ("quality", _quality(quality)),
            ("set", inspection.feature_set),
            ("parameters", ", ".join(f"{name} {value:g}" for name, value in inspection.parameters.items())),
        ]
    )
    known = inspection.known_after["features"]
    print_table(
        "Features of valid bars",
        ["feature", "mean", "std", "min", "max", "zeros", "range", "known after"],
        (
            [
                f.name,
                *map(number, (f.mean, f.std, f.min, f.max)),
                "-" if f.zeros is None else f"{f.zeros:.2%}",
                f"{number(f.low)} … {number(f.high)}",
                "-" if known.get(f.name) is None else f"{known[f.name]:,} bars",
            ]
            for f in inspection.features
        ),
    )
    print_table(
        "Segments",
        ["symbol", "bars", "first bar", "last bar", "first valid row"],
        (
            [
                s.symbol or "-",
                f"{s.last_row - s.first_row + 1:,}",
                when(s.first_timestamp),
                when(s.last_timestamp),
                "-" if s.first_valid is None else f"{s.first_valid:,}",
            ]
            for s in inspection.segments[:8]
        ),
    )
    if len(inspection.segments) > 8:
        print(f"… and {len(inspection.segments) - 8:,} more; --json lists all")
    print_table(
        "Splits",
        ["split", "bars", f"windows of {inspection.window_length}", "first bar", "last bar"],
        (
            [s.name, f"{s.bars:,}", f"{s.windows:,}", when(s.first_timestamp), when(s.last_timestamp)]
            for s in inspection.splits
        ),
    )
    if inspection.gaps:
        print_table(
            "Gaps",
            ["kind", "count", "typical", "longest", "begins (UTC)", "for example, from bar to bar"],
            (
                [
                    g.kind if i == 0 else "",
                    f"{g.count:,}" if i == 0 else "",
                    format_duration(g.typical) if i == 0 else "",
                    format_duration(g.longest) if i == 0 else "",
                    ", ".join(g.begins) if i == 0 else "",
                    describe_gap(example),
                ]
                for g in inspection.gaps
                for i, example in enumerate(g.examples)
            ),
        )
        print("Nothing is ever filled in: features pass over a gap, or begin afresh where a segment ends.")
    suggestion = inspection.suggestion
    option = f"--reset-on-gap {suggestion.reset_on_gap}" if suggestion.reset_on_gap else "no --reset-on-gap"
    print(f"\nsuggested: {option}: {suggestion.why}")
