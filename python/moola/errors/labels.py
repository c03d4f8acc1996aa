"""Errors about labelled windows, splits and leaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from moola.errors.base import AdvisedError, MoolaError, format_time
from moola.errors.listing import listed_rows, listing

__all__ = ["LabelError", "LabelProblem", "LeakError", "SharedBarsError", "SplitError"]


@dataclass(frozen=True, slots=True)
class LabelProblem:
    """One refused label."""

    kind: str
    """One of the keys of :data:`LABEL_KINDS`."""
    what: str
    """What is wrong with it, with its values."""
    row: int | None = None
    """Data row in the file, counted from 1; None where the problem concerns no single row."""
    file: str | None = None
    line: int | None = None
    """Line in a CSV file, counted from 1."""
    symbol: str | None = None

    def __str__(self) -> str:
        if self.row is None:
            return self.what
        where = f"{self.file}, row {self.row}"
        if self.line is not None:
            where += f" (line {self.line})"
        if self.symbol:
            where += f", symbol {self.symbol}"
        return f"{where}: {self.what}"


LABEL_KINDS: Mapping[str, tuple[str, str]] = {
    "no_class": (
        "missing class",
        "name the class of each window, or drop the row; windows without an expansion need a class too, such as none",
    ),
    "bad_class": (
        "class that is not a name",
        "name classes by text, whole numbers or booleans, one class a window",
    ),
    "class_spelling": (
        "class that differs from another only in case, blanks or the spelling of a number",
        "write each class in one way, or give classes that are really different other names",
    ),
    "no_window_end": ("missing window_end", "give the time or the row of each window's last bar"),
    "bad_number": ("value that is not a whole number", "repair it: rows and bar numbers are whole numbers"),
    "bad_time": (
        "time that cannot be read",
        "write times as ISO 8601 with their offset, or say how they are written with --time-format and --tz "
        "(of moola import-labels)",
    ),
    "unknown_symbol": (
        "symbol that the store does not have",
        "check the symbols; `moola inspect` lists those of the store",
    ),
    "no_such_bar": (
        "window_end that is not a bar of the store",
        "give the time of a bar as the store has it, or its row; check that this is the store that was labelled",
    ),
    "crosses_segment": (
        "window that begins before its segment",
        "label windows that lie in one segment, or give a smaller --window-length",
    ),
    "in_warmup": (
        "window whose last bar lies in the warm-up",
        "build the store with more bars before the first label, or with a smaller warmup_bars",
    ),
    "half_span": ("span with only one end", "give both start and end, or neither"),
    "span_no_bar": (
        "start or end that is not a bar of the store",
        "give the times of bars as the store has them; a minute without a trade has no bar",
    ),
    "span_reversed": ("span that ends before it starts", "exchange its start and end"),
    "span_outside": (
        "span outside its window",
        "correct the span, or give a --window-length that holds it; --span-kind (of moola import-labels) "
        "says what its numbers count",
    ),
    "bad_weight": (
        "weight that is not a finite number from 0 on",
        "give each window a weight, 1 for an ordinary one, or leave the column out",
    ),
    "different_labels": ("window with two different labels", "keep the right one"),
    "no_bars": ("window without bars", "drop the row, or repair the source"),
    "bar_count": (
        "window with a wrong number of bars",
        "cut all windows to one length, and give that length with --window-length",
    ),
    "number_count": ("bar that is not four numbers", "give each bar as open, high, low, close"),
    "not_finite": ("NaN, null or infinite price", "repair the source, or drop the row"),
    "not_a_candle": (
        "bar whose open or close lies outside [low, high], or with a price beyond float32 (1.2e-38 to 3.4e38)",
        "repair the source; prices are open, high, low, close, in this order, and neither scaled nor differenced",
    ),
    "never_valid": (
        "window that lies in the warm-up as a whole",
        "give a smaller warmup_bars in --config, or --feature-set ohlc4, which needs no swings",
    ),
    "too_few": (
        "class with fewer windows than folds",
        "label more windows, give fewer folds, or join the class with another",
    ),
}
"""For each kind of problem with a label: its name, and what to do about it."""


class LabelError(MoolaError, ValueError):
    """Labels that were refused.

    Attributes: `counts` (how many of each kind), `problems` (20 of them at most, every kind among them), `rows`
    (of each kind, every data row in the file, counted from 1), `noun` (what was refused: label, or class).
    """

    def __init__(
        self,
        counts: Mapping[str, int],
        problems: Sequence[LabelProblem],
        *,
        rows: Mapping[str, Sequence[int]] | None = None,
        noun: str = "label",
    ) -> None:
        self.counts = dict(counts)
        self.problems = list(problems)
        self.rows = {kind: list(numbers) for kind, numbers in (rows or {}).items()}
        self.noun = noun

        def others(kind: str) -> str:
            shown = {problem.row for problem in self.problems if problem.kind == kind}
            hidden = [row for row in self.rows.get(kind, ()) if row not in shown]
            return f": {listed_rows(hidden)}" if hidden else ""

        names = {kind: name for kind, (name, _) in LABEL_KINDS.items()}
        super().__init__(
            listing(noun, self.counts, self.problems, names, lambda kind, _: LABEL_KINDS[kind][1], others)
        )


class SplitError(AdvisedError, ValueError):
    """A cross-validation in which a split has no window left to train on.

    Attributes: `problem`, `advice`.
    """


class SharedBarsError(MoolaError, ValueError, AssertionError):
    """Train and test share bars, so that scores on this test set would be too good.

    Attributes: `train` and `test` (a pair of windows, as indices), `train_bars` and `test_bars` (first and last
    bar of each, labels included), `shared` (the first and last bar that both have; times where `in_time`),
    `count` (how many training windows share a bar with some test window).
    """

    def __init__(
        self,
        *,
        train: int,
        test: int,
        train_bars: tuple[int, int],
        test_bars: tuple[int, int],
        shared: tuple[int, int],
        in_time: bool,
        count: int,
    ) -> None:
        def span(bounds: tuple[int, int]) -> str:
            return f"bars {bounds[0]} to {bounds[1]}" if bounds[0] != bounds[1] else f"bar {bounds[0]}"

        both = f"{format_time(shared[0])} to {format_time(shared[1])}" if in_time else span(shared)
        affected = f"{count:,} training window{'s share' if count != 1 else ' shares'} bars with the test set"
        super().__init__(
            f"window {train} of train ({span(train_bars)}) and window {test} of test ({span(test_bars)}) share "
            f"{both}; {affected} in all. Purge them, for example with a splitter of moola.splits"
        )
        self.train = train
        self.test = test
        self.train_bars = train_bars
        self.test_bars = test_bars
        self.shared = shared
        self.in_time = in_time
        self.count = count


_SHOWN = 20
"""How many windows a `LeakError` names."""


class LeakError(MoolaError, ValueError, AssertionError):
    """A model was fitted on windows that it is scored on, so that its scores would be too good.

    Attributes: `what` (the model, scaler or pipeline), `problem`, `known` (the numbers of the windows).
    """

    def __init__(self, what: str, problem: str, known: Iterable[int]) -> None:
        self.what = what
        self.problem = problem
        self.known = [int(window) for window in known]
        count = len(self.known)
        shown = ", ".join(map(str, self.known[:_SHOWN])) + (
            f" and {count - _SHOWN:,} more" if count > _SHOWN else ""
        )
        super().__init__(
            f"{what} {problem}: {count:,} window{'s' if count != 1 else ''}, {shown}. Fit it on the training windows "
            "of the fold alone, and keep windows that share bars in one group"
        )
