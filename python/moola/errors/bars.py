"""Errors about bars: each refused bar with its file, row, time and value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moola.errors.base import MoolaError, format_time
from moola.errors.listing import listing

__all__ = ["BarError", "NotFiniteError", "Problem", "advice_on_nonpositive"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One refused bar."""

    kind: str
    """One of the keys of :data:`KINDS`."""
    row: int
    """Data row in the file, counted from 1; for arrays the index, counted from 0."""
    column: str
    value: object
    file: str | None = None
    line: int | None = None
    """Line in a CSV file, counted from 1."""
    timestamp: int | None = None
    """The bar's time as the source gave it, UTC nanoseconds."""
    symbol: str | None = None
    bar: tuple[float, float, float, float] | None = None
    """Open, high, low and close, where they could be read."""
    previous: int | None = None
    """The time of the bar before it, where the fault lies in their order."""
    contradicts: str | None = None
    """What the refused value does not fit, in words; None where the other fields say it."""

    def __str__(self) -> str:
        where = f"{self.file}, row {self.row}" if self.file is not None else f"bar {self.row}"
        if self.line is not None:
            where += f" (line {self.line})"
        if self.symbol:
            where += f", symbol {self.symbol}"
        value = self.value
        if isinstance(value, int) and value == self.timestamp:
            value = format_time(value)
        elif self.timestamp is not None:
            where += f", at {format_time(self.timestamp)}"
        return f"{where}: {self.column} = {value}{self._judged_by()}"

    def _judged_by(self) -> str:
        """The other values that the refused one contradicts."""
        if self.contradicts is not None:
            return f", {self.contradicts}"
        if self.kind == "out_of_order" and self.previous is not None:
            return f", after {format_time(self.previous)}"
        if self.bar is not None and self.kind in ("high_below_low", "open_outside", "close_outside"):
            _, high, low, _ = self.bar
            return f", low = {low}" + (f", high = {high}" if self.column != "high" else "")
        return ""


KINDS: Mapping[str, tuple[str, str, str]] = {
    "not_finite": (
        "NaN, null or infinite price",
        "repair the source",
        "or pass --drop-bad-bars (drop_bad_bars=True): the bar then becomes a gap",
    ),
    "not_a_number": (
        "value that is not a number",
        "repair the source",
        "or name the right column with --columns FILE_COLUMN=ROLE",
    ),
    "out_of_range": (
        "price that is zero, negative or beyond float32 (1.2e-38 to 3.4e38)",
        "repair the source; spreads and returns are not prices",
        "or pass --drop-bad-bars, which leaves out a few such bars (see --max-bad)",
    ),
    "beyond_float32": (
        "price beyond float32 (0, or 1.2e-38 to 3.4e38 in size)",
        "repair the source",
        "or pass --drop-bad-bars, which leaves out a few such bars (see --max-bad)",
    ),
    "high_below_low": (
        "high below low",
        "repair the source",
        "or check --columns: are high and low exchanged?",
    ),
    "open_outside": (
        "open outside [low, high]",
        "repair the source",
        "or check --columns: is open the right column?",
    ),
    "close_outside": (
        "close outside [low, high]",
        "repair the source",
        "or check --columns: is close the right column?",
    ),
    "no_timestamp": ("missing timestamp", "repair the source: every bar needs its time", ""),
    "bad_timestamp": (
        "timestamp that cannot be read",
        "say with --time-format how it is written, or name the right column with --columns",
        "",
    ),
    "ambiguous_time": (
        "local time that occurs twice when clocks go back",
        "give timestamps in UTC or with their offset",
        "",
    ),
    "nonexistent_time": (
        "local time that does not exist because clocks go forward",
        "check --tz, or give timestamps in UTC or with their offset",
        "",
    ),
    "duplicate_timestamp": (
        "duplicate timestamp",
        "give every bar once",
        "or pass --dedup identical: it drops exact repeats, rows that differ are still refused",
    ),
    "out_of_order": (
        "timestamp earlier than the one before it",
        "give bars in order of time",
        "or pass --sort",
    ),
    "another_interval": (
        "run of bars of another interval",
        "read bars of each length apart, each into its own store",
        "or, if all bars are of one length and some have no trade, say it with --bar-interval, such as 1m "
        "(bar_interval='1m')",
    ),
    "live_row": (
        "last bar off the grid of all others, as of a bar that is not closed",
        "delete the row: a vendor adds the price of the moment as a last row",
        "",
    ),
    "extra_not_finite": (
        "null, infinite or too large value in a kept column",
        "leave the column out of --keep, repair the source, or pass --drop-bad-bars",
        "",
    ),
}
"""For each kind of problem: its name, what to do about it, and an option that helps where the source has options."""


_CAN_BE = "if prices can be zero or negative, as of spreads and back-adjusted contracts, pass"


def advice_on_nonpositive(problems: Sequence[Problem]) -> dict[str, str]:
    """Advice where an option would allow the refused prices; empty where none of them is zero or negative."""
    refused = [problem for problem in problems if problem.kind == "out_of_range"]
    if not any(isinstance(problem.value, float) and problem.value <= 0 for problem in refused):
        return {}
    if any(problem.file is None for problem in refused):
        return {"out_of_range": f"repair the source; {_CAN_BE} allow_nonpositive=True"}
    _, _, option = KINDS["out_of_range"]
    return {
        "out_of_range": f"repair the source, {option}; {_CAN_BE} --allow-nonpositive (allow_nonpositive=True)"
    }


class BarError(MoolaError, ValueError):
    """Bars that were refused.

    Attributes: `counts` (how many of each kind), `problems` (20 of them at most, every kind among them),
    `advice_on_times` (what else to do about times that repeat or are out of order; empty where there is nothing),
    `instead` (what to do about all of them; empty where each kind has its own advice),
    `better_advice` (for some kinds, advice made from the bars at hand, which replaces the usual one).
    """

    def __init__(
        self,
        counts: Mapping[str, int],
        problems: Sequence[Problem],
        advice_on_times: str = "",
        better_advice: Mapping[str, str] | None = None,
        *,
        instead: str = "",
    ) -> None:
        self.counts = dict(counts)
        self.problems = list(problems)
        self.advice_on_times = advice_on_times
        self.instead = instead
        self.better_advice = dict(better_advice or {})

        def advice(kind: str, shown: Sequence[Problem]) -> str:
            if instead:
                # One advice for all kinds, after the last.
                return instead if kind == list(self.counts)[-1] else "see below"
            if kind in self.better_advice:
                return self.better_advice[kind]
            _, advice, option = KINDS[kind]
            # Arrays and streams have no options.
            has_options = option and not any(problem.file is None for problem in shown)
            if advice_on_times and kind in ("duplicate_timestamp", "out_of_order"):
                return f"{advice}; {advice_on_times}"
            return f"{advice}, {option}" if has_options else advice

        names = {kind: name for kind, (name, *_) in KINDS.items()}
        super().__init__(listing("bar", self.counts, self.problems, names, advice))


class NotFiniteError(MoolaError, ArithmeticError):
    """A loss or a gradient in training was NaN or infinite; the step was not taken.

    Attributes: `step`; `what` (loss or gradient); `windows` (symbol and last bar's time of each window of the batch,
    windows with values that are not finite first; empty where windows have no times); `suspects` (how many windows hold
    values that are not finite); `run` (the run directory, or None).
    """

    def __init__(
        self, step: int, what: str, windows: Sequence[tuple[str, int]], suspects: int, run: str | Path | None
    ) -> None:
        shown = ", ".join(f"{symbol or 'window'} at {format_time(time)}" for symbol, time in windows[:10])
        more = f" and {len(windows) - 10:,} more" if len(windows) > 10 else ""
        if suspects:
            cause = (
                f"{suspects:,} of its {len(windows):,} windows hold values that are not finite, named first"
            )
            advice = "Repair these bars, or leave the kept column out"
        else:
            cause = "its windows are finite"
            advice = "Lower the learning rate, or clip gradients to a smaller norm"
        cause = f": {cause} ({shown}{more})" if windows else ""
        kept = f"; the last good checkpoint stays in {run}" if run is not None else ""
        super().__init__(
            f"the {what} of step {step} is not finite, and the step was not taken{cause}{kept}. {advice}"
        )
        self.step = step
        self.what = what
        self.windows = list(windows)
        self.suspects = suspects
        self.run = None if run is None else Path(run)
