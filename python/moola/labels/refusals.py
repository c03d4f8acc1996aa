"""Refused labels: collects everything that is wrong and raises it as one error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moola.bars.formats.csv import CsvInput
from moola.bars.formats.inputs import Input
from moola.bars.formats.lines import LineFinder
from moola.bars.source import MAX_SAMPLES
from moola.errors import ConfigError, LabelError, LabelProblem
from moola.settings.whole_numbers import whole_number

__all__ = ["Refusals", "check_classes", "check_folds"]


class Refusals:
    """The refused rows of a table of labels, and why. A row counts once, even with several faults."""

    def __init__(self, source: Input, rows: int) -> None:
        self.refused: NDArray[np.bool_] = np.zeros(rows, np.bool_)
        """`[rows]`: which rows are refused so far."""
        self.symbols: Sequence[str] = ()
        """The symbol of each row, once it is known."""
        self._source = source
        self._found: dict[str, list[tuple[int, Callable[[int], str]]]] = {}

    def add(self, kind: str, which: NDArray[np.bool_], what: Callable[[int], str], first: int = 0) -> None:
        """Refuses rows that are not refused yet. `what` describes what is wrong with a row. `which` starts at row
        `first`.
        """
        fresh = first + np.flatnonzero(which & ~self.refused[first : first + len(which)])
        if len(fresh):
            self.refused[fresh] = True
            self._found.setdefault(kind, []).extend((row, what) for row in fresh.tolist())

    def check(self) -> None:
        """Raises `LabelError` if any row is refused."""
        if not self._found:
            return
        found = {kind: sorted(rows, key=itemgetter(0)) for kind, rows in self._found.items()}
        # The first of every kind comes before the second of any, so that a frequent kind does not hide a rare one.
        ranked = sorted(
            (
                (rank, row, kind, what)
                for kind, rows in found.items()
                for rank, (row, what) in enumerate(rows)
            ),
            key=itemgetter(0),
        )[:MAX_SAMPLES]
        lines = LineFinder()
        # In the order of the rows, because the file is read again to find their lines.
        problems = [
            LabelProblem(
                kind,
                what(row),
                row=row + 1,
                file=self._source.name,
                line=lines.find(self._source, row) if isinstance(self._source, CsvInput) else None,
                symbol=self.symbols[row] if self.symbols else None,
            )
            for _, row, kind, what in sorted(ranked, key=itemgetter(1))
        ]
        numbers = {kind: [row + 1 for row, _ in rows] for kind, rows in found.items()}
        raise LabelError({kind: len(rows) for kind, rows in numbers.items()}, problems, rows=numbers)


def check_classes(y: ArrayLike, classes: Sequence[str]) -> None:
    """Checks that there are at least two classes.

    Args:
        y: `[n]`, the codes of the classes.
        classes: Their names.

    Raises `ConfigError`, which names the class, if all windows have one class: every score would be perfect.
    """
    found = np.unique(np.asarray(y, np.int64))
    if len(found) == 1:
        problem = f"{classes[found[0]]!r} is the only class; label windows of at least two, such as none"
        raise ConfigError("labels", problem)


def check_folds(y: ArrayLike, classes: Sequence[str], folds: int) -> None:
    """Checks that every class can be in every fold.

    Args:
        y: `[n]`, the codes of the classes.
        classes: Their names; each must occur.
        folds: 2 or more.

    Raises `LabelError`, which names every class with fewer windows than folds, and `ConfigError` if `folds` < 2.
    """
    folds = whole_number("folds", folds, 2, of="folds")
    counts = np.bincount(np.asarray(y, np.int64), minlength=len(classes))
    few = [(name, int(count)) for name, count in zip(classes, counts, strict=True) if count < folds]
    if few:
        problems = [
            LabelProblem("too_few", f"{name!r}: {count} window{'s' if count != 1 else ''} for {folds} folds")
            for name, count in few
        ]
        raise LabelError({"too_few": len(few)}, problems[:MAX_SAMPLES], noun="class")
