"""Counts the lines of a CSV file, and finds the line on which a row starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

__all__ = ["LineFinder", "Lines", "RowsWithLines"]


class Lines:
    """An iterator over lines that counts them."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.taken = 0

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken += 1
        return line


class RowsWithLines(Protocol):
    """A file whose rows stand on lines."""

    @property
    def name(self) -> str: ...
    def rows_with_lines(self) -> Iterator[tuple[list[str], int]]: ...


class LineFinder:
    """Finds the lines of rows. For ascending rows of one file it reads on from where it was."""

    def __init__(self) -> None:
        self._source: RowsWithLines | None = None
        self._rows: Iterator[tuple[int, int]] = iter(())
        self._next = 0
        self._found: dict[tuple[str, int], int] = {}

    def find(self, source: RowsWithLines, row: int) -> int | None:
        """The line (from 1) on which a row (from 0) starts; None where the file ends before it."""
        known = self._found.get((source.name, row))
        if known is not None:
            return known
        if source is not self._source or row < self._next:
            self._source = source
            self._rows = ((i, line) for i, (_, line) in enumerate(source.rows_with_lines()))
        for i, line in self._rows:
            if i == row:
                self._next = i + 1
                self._found[source.name, row] = line
                return line
        self._source = None
        return None
