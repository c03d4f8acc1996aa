"""The bar interval of a source: what is refused for the steps between its bars, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moola.bars.source import BarSource
from moola.errors import BarError, InputError, Problem
from moola.store.inspect.durations import format_duration

__all__ = ["INTERVAL_COUNTS", "interval_in_words", "interval_notices", "no_bar_length", "refuse_odd_steps"]

INTERVAL_COUNTS = ("bar_interval", "another_interval", "off_grid_bars")
"""What the quality report counts of the source's one bar interval. Reports of stores before 0.2.0 lack it."""

ADVICE = "Give the length of a bar with --bar-interval, such as --bar-interval 1m (bar_interval='1m')"


def refuse_odd_steps(source: BarSource, odd: Mapping[str, Any]) -> None:
    """Raises `BarError` where bars have another interval than the source, or a symbol ends with a bar off the grid."""
    counts = {"another_interval": odd["runs"], "live_row": odd["live"]}
    counts = {kind: count for kind, count in counts.items() if count}
    if not counts:
        return
    apart = format_duration(odd["interval"])
    problems = []
    for kind, bars in (("another_interval", odd["first_runs"]), ("live_row", odd["first_live"])):
        given = source.given_times([(file, row) for file, _, row, *_ in bars]) if bars else []
        for (file, code, row, timestamp, bar, step, steps), text in zip(bars, given, strict=True):
            after = f"{format_duration(step)} after the bar before"
            if kind == "another_interval":
                after += f", the first of {steps:,} such steps"
            problems.append(
                Problem(
                    kind,
                    row + 1,
                    "timestamp",
                    timestamp if text is None else text,
                    file=source.label(file),
                    timestamp=timestamp,
                    symbol=source.symbols[code] if source.symbols else None,
                    bar=bar,
                    previous=timestamp - step,
                    contradicts=f"{after}; bars are {apart} apart",
                    line=source.locate(file, row),
                )
            )
    raise BarError(counts, problems)


def no_bar_length(source: BarSource, odd: Mapping[str, Any]) -> InputError:
    """The error that a close stamp cannot become an open, because it is unknown how long bars are."""
    return InputError(
        f"has times of closes, and no step shows how long a bar is: {_steps(odd['commonest'], odd['steps'])}",
        ADVICE,
        source=source.files[0].name if len(source.files) == 1 else None,
    )


def _steps(commonest: Sequence[tuple[int, int]], steps: int) -> str:
    if not steps:
        return "no symbol has two bars"
    listed = ", ".join(
        f"{format_duration(step)} ({100 * count / steps:.0f} %)" for step, count in commonest if step
    )
    lead = "none divides 99 % of all steps and occurs often"
    return f"{lead}; the commonest are {listed}" if listed else lead


def interval_in_words(quality: Mapping[str, Any], told: int | None) -> str:
    """The bar interval of a store, and where it comes from."""
    if not quality["bar_interval"]:
        return "unknown: no step divides 99 % of all steps and occurs often"
    how = "as told" if told is not None else "inferred from the steps of all symbols"
    return f"{format_duration(quality['bar_interval'])}, {how}"


def interval_notices(quality: Mapping[str, Any]) -> list[str]:
    """What a person should know about the steps of a source."""
    notices = []
    if not quality["bar_interval"]:
        notices.append(
            "no bar length: no step divides 99 % of all steps and occurs often, so moola predict and moola "
            "import-labels will ask for --bar-interval; if bars have one length, build with --bar-interval, such as 1m"
        )
    elif quality["another_interval"]:
        notices.append(
            f"50 or more steps of {format_duration(quality['another_interval'])} follow one another, though "
            f"--bar-interval is {format_duration(quality['bar_interval'])}"
        )
    if bars := quality["off_grid_bars"]:
        notices.append(
            f"{bars:,} bar{'s lie' if bars > 1 else ' lies'} off the grid of "
            f"{format_duration(quality['bar_interval'])} on which most bars lie"
        )
    return notices
