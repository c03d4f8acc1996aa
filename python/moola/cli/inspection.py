"""`moola inspect` shows what a store holds. Other commands describe stores with the functions here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moola.cli.app import Json, app, format_bytes, print_facts, print_json, print_table
from moola.errors.base import format_time

if TYPE_CHECKING:
    from moola.store.inspect.summary import Inspection
    from moola.store.reader import FeatureStore

__all__ = ["inspect", "of_symbols", "quality_in_words", "size_of", "symbols_of"]


@app.command()
def inspect(
    store: Annotated[str, typer.Argument(metavar="STORE", help="The feature store.")],
    json: Json = False,
) -> None:
    """Show a store: features, segments, splits, gaps, and a suggested --reset-on-gap."""
    from moola.store.inspect.summary import inspect_store

    inspection = inspect_store(store)
    if json:
        return print_json(inspection.as_dict())
    _print_inspection(inspection)


def quality_in_words(quality: Mapping[str, Any]) -> str:
    """The counts of unusual bars in words. Zero counts are left out, except for gaps."""
    from moola.store.inspect.durations import format_duration

    gaps = f"{quality['gaps']:,} gaps"
    if quality["gaps"]:
        gaps += f" (the longest step {format_duration(quality['longest_step'])})"
    words = {
        "zero_range_bars": "zero-range bars",
        "short_steps": "steps shorter than the bar interval",
        "jumps_over_50_percent": "jumps of more than 50 %",
        "off_grid_bars": "bars off the grid",
        "dropped_bad_bars": "bad bars dropped",
        "dropped_duplicates": "repeats dropped",
        "rows_of_other_symbols": "rows of other symbols left out",
    }
    return ", ".join(
        [gaps, *(f"{quality[name]:,} {what}" for name, what in words.items() if quality.get(name))]
    )


def symbols_of(store: FeatureStore) -> list[str]:
    return [symbol for symbol in dict.fromkeys(segment.symbol for segment in store.segments) if symbol]


def of_symbols(symbols: Sequence[str]) -> str:
    if not symbols:
        return ""
    names = ", ".join(symbols[:5]) + (", …" if len(symbols) > 5 else "")
    return f" of {len(symbols):,} symbol{'s' if len(symbols) > 1 else ''} ({names})"


def size_of(store: FeatureStore) -> int:
    return sum((store.path / name).stat().st_size for name in store.files())


def _print_inspection(inspection: Inspection) -> None:
    from moola.store.inspect.durations import format_duration
    from moola.store.inspect.gaps import describe_gap

    def number(x: float | None) -> str:
        return "-" if x is None else f"{x:.4g}"

    def when(nanoseconds: int | None) -> str:
        return "-" if nanoseconds is None else format_time(nanoseconds)

    quality = inspection.quality
    symbols = of_symbols(inspection.symbols)
    span = f"{when(inspection.first_timestamp)} to {when(inspection.last_timestamp)}"
    sources = ", ".join(source["name"] for source in inspection.sources[:3])
    more = f" and {len(inspection.sources) - 3:,} more" if len(inspection.sources) > 3 else ""
    lengths = sorted({segment.bar_interval for segment in inspection.segments} - {0})
    interval = " or ".join(map(format_duration, lengths))
    options = {
        name: value
        for name, value in inspection.read_options.items()
        if value not in (None, False, [], ["symbol"])
    }
    for name in ("reset_on_gap", "bar_interval"):
        if options.get(name) is not None:
            options[name] = format_duration(options[name])
    print_facts(
        [
            ("store", f"{inspection.path}: layout {inspection.layout}, {format_bytes(inspection.bytes)}"),
            ("id", inspection.store_id),
            ("built", f"{inspection.created} by moola {inspection.moola_version} from {sources}{more}"),
            ("read with", ", ".join(f"{name}={value}" for name, value in options.items())),
            (
                "bars",
                f"{inspection.bars:,}{symbols}, {inspection.valid_bars:,} past the warm-up"
                + (f", every {interval}" if interval else ", of unknown length"),
            ),
            ("time", span),
            ("quality", quality_in_words(quality)),
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
        print("Gaps are never filled. Features continue across a gap, and start again in each segment.")
    suggestion = inspection.suggestion
    option = f"--reset-on-gap {suggestion.reset_on_gap}" if suggestion.reset_on_gap else "no --reset-on-gap"
    print(f"\nsuggested: {option}: {suggestion.why}")
