"""Everything moola raises on purpose, in one hierarchy. Each error carries its facts and ends with what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "BarError",
    "BuildConflictError",
    "ConfigError",
    "DamagedStoreError",
    "DeviceError",
    "FeatureMismatchError",
    "InputDeniedError",
    "InputError",
    "InputMissingError",
    "LabelError",
    "LabelProblem",
    "LeakError",
    "MoolaError",
    "NotFiniteError",
    "Problem",
    "RunError",
    "SharedBarsError",
    "SplitError",
    "StaleStoreError",
    "StateError",
    "StoreError",
    "StoreExistsError",
    "StoreMissingError",
    "StoreWriteError",
    "TimestampError",
    "WeightsError",
]


# How many windows a `LeakError` names.
_SHOWN = 20


class MoolaError(Exception):
    """The base of every error raised by moola.

    All of them can be pickled, with their facts. They can also be made from their text alone, which is what torch's
    DataLoader does with an error that a worker raised: then the facts are None.
    """

    def __init_subclass__(cls, **others: Any) -> None:
        super().__init_subclass__(**others)
        if "__init__" in cls.__dict__:
            cls.__init__ = _or_from_text(cls.__init__)  # type: ignore[method-assign]

    def __reduce__(self) -> tuple[Any, ...]:
        facts = dict(self.__dict__)
        if isinstance(self, OSError) and self.errno is not None:
            facts["errno"] = self.errno
        return _restore, (type(self), self.args, facts)


def _or_from_text(init: Callable[..., None]) -> Callable[..., None]:
    """An `__init__` whose arguments are the facts, and which takes the text instead."""
    facts = list(signature(init).parameters)[1:]

    @wraps(init)
    def either(self: MoolaError, *args: Any, **named: Any) -> None:
        if named or len(args) != 1 or not isinstance(args[0], str):
            init(self, *args, **named)
            return
        super(MoolaError, self).__init__(args[0])
        for fact in facts:
            setattr(self, fact, None)

    return either


def _restore(kind: type[MoolaError], args: tuple[Any, ...], facts: dict[str, Any]) -> MoolaError:
    # Not by way of __init__, whose arguments are the facts and not the message.
    base = OSError if issubclass(kind, OSError) else Exception
    error: MoolaError = base.__new__(kind, *args)
    error.args = args
    for name, fact in facts.items():
        setattr(error, name, fact)
    return error


class _AdvisedError(MoolaError):
    """What is wrong, and what to do.

    Attributes: `problem`, `advice`.
    """

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}. {advice}")
        self.problem = problem
        self.advice = advice


class _PathError(_AdvisedError):
    """What is wrong with a file or a directory, and what to do.

    Attributes: `path`, `problem`, `advice`.
    """

    def __init__(self, path: str | Path, problem: str, advice: str) -> None:
        super().__init__(f"{path}: {problem}", advice)
        self.path = Path(path)
        self.problem = problem


class ConfigError(MoolaError, ValueError):
    """A parameter that does not exist, has the wrong type or lies outside its range.

    Attributes: `name` (the parameter), `problem` (what is wrong and what would be right).
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


class StateError(MoolaError, ValueError):
    """Saved stream state that is foreign, from another version, or damaged."""


class TimestampError(MoolaError, ValueError):
    """A stream needs a timestamp that it was not given."""


class InputError(_AdvisedError, ValueError):
    """Something that cannot be read as bars at all: a missing column, a wrong type, an unknown format.

    Attributes: `source` (the file, or None), `problem`, `advice`.
    """

    def __init__(self, problem: str, advice: str, *, source: str | None = None) -> None:
        super().__init__(f"{source}: {problem}" if source else problem, advice)
        self.source = source
        self.problem = problem


class InputMissingError(InputError, FileNotFoundError):
    """There is no file where bars should be."""


class InputDeniedError(InputError, PermissionError):
    """The file is there and may not be read."""


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
    """The time of the bar before it, where that is what it was judged by."""

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
        """What the value does not go with."""
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
        "",
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
        "say how it is written with --time-format, for example '%d.%m.%Y %H:%M'",
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
    "extra_not_finite": (
        "null, infinite or too large value in a kept column",
        "leave the column out of --keep, repair the source, or pass --drop-bad-bars",
        "",
    ),
}
"""What each kind of problem is, what to do about it, and what else where bars come from a source with options."""


class BarError(MoolaError, ValueError):
    """Bars that must not become features.

    Attributes: `counts` (how many of each kind), `problems` (20 of them at most, every kind among them).
    """

    def __init__(self, counts: Mapping[str, int], problems: Sequence[Problem]) -> None:
        self.counts = dict(counts)
        self.problems = list(problems)

        def advice(kind: str, shown: Sequence[Problem]) -> str:
            _, advice, option = KINDS[kind]
            # Arrays and streams know no options.
            has_options = option and not any(problem.file is None for problem in shown)
            return f"{advice}, {option}" if has_options else advice

        names = {kind: name for kind, (name, *_) in KINDS.items()}
        super().__init__(_listing("bar", self.counts, self.problems, names, advice))


_Refused = TypeVar("_Refused", Problem, "LabelProblem")


def _listing(
    noun: str,
    counts: Mapping[str, int],
    problems: Sequence[_Refused],
    names: Mapping[str, str],
    advice: Callable[[str, Sequence[_Refused]], str],
    more: Callable[[str], str] = lambda kind: "",
) -> str:
    """What was refused, by kind: how often, where for example, and what to do. `more` follows what is not shown."""
    total = sum(counts.values())
    lines = [f"{total:,} {noun if total == 1 else _PLURALS.get(noun, noun + 's')} refused"]
    for kind, count in counts.items():
        lines.append(f"  {names[kind]}: {count:,}")
        shown = [problem for problem in problems if problem.kind == kind]
        lines += [f"    {problem}" for problem in shown]
        if count > len(shown) > 0:
            lines.append(f"    … and {count - len(shown):,} more{more(kind)}")
        lines.append(f"    → {advice(kind, shown)}")
    return "\n".join(lines)


_PLURALS = {"class": "classes"}


@dataclass(frozen=True, slots=True)
class LabelProblem:
    """One refused label."""

    kind: str
    """One of the keys of :data:`LABEL_KINDS`."""
    what: str
    """What is wrong with it, with the values that are."""
    row: int | None = None
    """Data row in the file, counted from 1; None for what concerns no single row."""
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
        "name the class of each window, or drop the row; what is no expansion is a class too, such as none",
    ),
    "bad_class": (
        "class that is no name",
        "name classes by texts, whole numbers or booleans, one a window",
    ),
    "no_window_end": ("missing window_end", "give the last bar of each window, by its time or its row"),
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
        "window_end that is no bar of the store",
        "give the time of a bar as the store has it, or its row; is this the store that was labelled?",
    ),
    "crosses_segment": (
        "window that begins before its segment",
        "label windows that lie in one segment, or give a smaller --window-length",
    ),
    "in_warmup": (
        "window whose last bar is not past the warm-up",
        "build the store with more bars before the first label, or with a smaller warmup_bars",
    ),
    "half_span": ("span with only one end", "give both start and end, or neither"),
    "span_no_bar": (
        "start or end that is no bar of the store",
        "give the times of bars as the store has them; minutes without a trade are no bars",
    ),
    "span_reversed": ("span that ends before it starts", "exchange its start and end"),
    "span_outside": (
        "span outside its window",
        "correct the span, or give a --window-length in which it lies; --span-kind (of moola "
        "import-labels) says what its numbers count",
    ),
    "bad_weight": (
        "weight that is no finite number from 0 on",
        "give each window a weight, 1 for an ordinary one, or leave the column out",
    ),
    "different_labels": ("window with two labels that differ", "keep the one that is right"),
    "no_bars": ("window without bars", "drop the row, or repair the source"),
    "bar_count": (
        "window with another number of bars",
        "cut all windows to one length, and say which with --window-length",
    ),
    "number_count": ("bar that is not four numbers", "give each bar as open, high, low, close"),
    "not_finite": ("NaN, null or infinite price", "repair the source, or drop the row"),
    "not_a_candle": (
        "bar whose open or close lies outside [low, high], or with a price beyond float32 (1.2e-38 to 3.4e38)",
        "repair the source; prices are open, high, low, close, in this order, and neither scaled nor differenced",
    ),
    "never_valid": (
        "window of which no bar is past the warm-up",
        "give a smaller warmup_bars in --config, or --feature-set ohlc4, which waits for no swings",
    ),
    "too_few": (
        "class with fewer windows than folds",
        "label more windows, give fewer folds, or join the class with another",
    ),
}
"""What each kind of problem with a label is, and what to do about it."""


class LabelError(MoolaError, ValueError):
    """Labels that nothing can be learned from.

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
            _listing(noun, self.counts, self.problems, names, lambda kind, _: LABEL_KINDS[kind][1], others)
        )


_MOST_RANGES = 100


def listed_rows(rows: Sequence[int]) -> str:
    """`rows 3 to 7, 9, 12`, for ascending numbers."""
    firsts: list[int] = []
    lasts: list[int] = []
    for row in rows:
        if lasts and row == lasts[-1] + 1:
            lasts[-1] = row
        else:
            firsts.append(row)
            lasts.append(row)
    pairs = list(zip(firsts, lasts, strict=True))
    text = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in pairs[:_MOST_RANGES])
    if len(pairs) > _MOST_RANGES:
        text += ", … (the error's `rows` has all)"
    return f"rows {text}" if len(rows) > 1 else f"row {text}"


class SplitError(_AdvisedError, ValueError):
    """A cross-validation that cannot be done: a split has nothing left to train on.

    Attributes: `problem`, `advice`.
    """


class SharedBarsError(MoolaError, ValueError, AssertionError):
    """Train and test know the same bars: scores on this test set would flatter.

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
            f"{both}; {affected} in all. Purge them: moola.splits has splitters that do"
        )
        self.train = train
        self.test = test
        self.train_bars = train_bars
        self.test_bars = test_bars
        self.shared = shared
        self.in_time = in_time
        self.count = count


class LeakError(MoolaError, ValueError, AssertionError):
    """Something knows the windows that it is scored on: its scores would flatter.

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


class StoreError(_PathError):
    """The base of what can be wrong with a feature store.

    Attributes: `path` (of the store), `problem`, `advice`.
    """


class StoreMissingError(StoreError, FileNotFoundError):
    """There is no store at this path."""


class StoreExistsError(StoreError, FileExistsError):
    """Something stands where the store should go."""


class StoreWriteError(StoreError, OSError):
    """The system would not let the store be written: a full disk, a missing permission, an unfit file system.

    Attribute: `errno`, where the system gave one.
    """

    def __init__(self, path: str | Path, problem: str, advice: str, *, errno: int | None = None) -> None:
        super().__init__(path, problem, advice)
        self.errno = errno


class DamagedStoreError(StoreError):
    """A file of the store is missing, foreign, truncated or altered. Attribute: `file`."""

    def __init__(self, path: str | Path, file: str, problem: str, advice: str | None = None) -> None:
        super().__init__(
            path,
            f"{file}: {problem}",
            advice
            or "Build the store again, or restore it from a copy; `moola verify-features` names every fault",
        )
        self.file = file


class StaleStoreError(StoreError):
    """The path now holds another store than the one that was opened."""


class BuildConflictError(StoreError):
    """Another builder published, or is replacing, the store of this name."""


class WeightsError(_PathError, ValueError):
    """A file of weights, or a checkpoint, that is missing, foreign or damaged.

    Attributes: `path`, `problem`, `advice`.
    """


class FeatureMismatchError(_AdvisedError, ValueError):
    """Weights that were trained on other features than those at hand.

    Attributes: `problem` (how they differ), `advice`.
    """


class RunError(_PathError):
    """A run directory that cannot be used as asked: it exists, differs, or is none.

    Attributes: `path`, `problem`, `advice`.
    """


class DeviceError(_AdvisedError, RuntimeError):
    """A device that is not there, or parameters and data on different ones.

    Attributes: `problem`, `advice`.
    """


class NotFiniteError(MoolaError, ArithmeticError):
    """Training met a loss or a gradient that is NaN or infinite, and did not take the step.

    Attributes: `step`, `what` (loss or gradient), `windows` (symbol and last bar's time of each window of the
    batch, those with values that are not finite first; none where they have no times), `run` (its directory, or None).
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


def format_time(nanoseconds: int) -> str:
    """UTC nanoseconds as ISO 8601, with as many decimals as they need."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0") + "Z" if rest else f"{text}Z"
