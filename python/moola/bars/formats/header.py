"""Finds the header of a CSV file: the lines before it, the separator, and the names of the columns."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from moola.bars.formats.lines import Lines
from moola.bars.roles import ALIASES, plain_name

__all__ = ["Header", "SideBySideError", "find_header", "is_number"]

MIN_COLUMNS = 5
"""Time, open, high, low and close."""

MOST_LINES = 50
"""The header begins within the first lines of a file, at most this many."""

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\s,;]*', re.IGNORECASE)
_DATE = re.compile(r"\d{1,4}[-/.]\w{1,3}[-/.]\d{1,4}|\d{8,}")
_USUAL = frozenset(name for names in ALIASES.values() for name in names)


@dataclass
class Header:
    """What a CSV file's first lines say."""

    delimiter: str
    names: list[str]
    """One name per column; numbers from 0 where the file has no header."""
    lines: int
    """Lines before the first row."""
    headerless: bool
    first_line: str
    """The first line that has columns, cut to 80 characters."""
    rows: list[list[str]]
    """The first rows of the sample, at most 1,000."""
    numbered: bool = False
    """The header is the numbers 0, 1, 2, …"""
    empty_last: bool = False
    """Rows end with a delimiter that the header lacks: their last column must be empty."""
    symbol: str | None = None
    """The symbol that a line of the header names."""
    notes: list[str] = field(default_factory=list)
    """What was left out, for a person to read."""


class SideBySideError(ValueError):
    """The header names several instruments. `args[0]` lists them."""


def find_header(text: str, skip_lines: int) -> Header:
    """The header of a file that begins with `text`, without its first `skip_lines` lines.

    Raises `csv.Error` for a quote that is not closed, `SideBySideError`, and `StopIteration` where no line has columns.
    """
    lines = list(islice(io.StringIO(text, newline=""), skip_lines + 20 * MOST_LINES))
    start, forced = skip_lines, None
    while start < len(lines):
        line = lines[start].strip()
        if line and not (separator := _SEPARATOR_LINE.fullmatch(line)):
            break
        if line and separator is not None:
            forced = separator[1]
        start += 1
    delimiter, columns = _columns(lines[start:], forced)
    first = _first_with_columns(lines, start, delimiter, columns)
    if lines[first].startswith("#"):
        text = "".join([*lines[:first], lines[first].lstrip("#"), text[sum(map(len, lines[: first + 1])) :]])
    header = _read(text, first, delimiter)
    if skipped := sum(
        not _SEPARATOR_LINE.fullmatch(line.strip() or "sep=,") for line in lines[skip_lines:first]
    ):
        header.notes.append(
            f"skipped {'the first line' if skipped == 1 else f'{skipped} lines'} before the header"
        )
    return header


def _columns(lines: Sequence[str], forced: str | None) -> tuple[str, int]:
    """The separator, and how many columns most lines have.

    The separator is a tab, a semicolon or | where it makes enough columns for a bar. A comma may be a decimal mark
    there.
    """
    found: dict[str, int] = {}
    for delimiter in [forced] if forced else "\t;|,":
        counts = Counter(
            len(row) for line in lines[:1000] if line.strip() and (row := _cells(line, delimiter))
        )
        # Lines before a short table may be more than its rows.
        enough = {count: lines for count, lines in counts.items() if count >= MIN_COLUMNS and lines > 1}
        found[delimiter] = Counter(enough or counts).most_common(1)[0][0] if counts else 0
        if found[delimiter] >= MIN_COLUMNS:
            return delimiter, found[delimiter]
    best = max(found, key=found.__getitem__)
    return best, found[best]


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _first_with_columns(lines: Sequence[str], start: int, delimiter: str, columns: int) -> int:
    """The first line of the table. Lines before it have fewer columns, or are comments."""
    for i, line in enumerate(lines[start : start + MOST_LINES], start):
        if not line.strip():
            continue
        count = len(_cells(line, delimiter))
        comment = line.startswith("#") and not (
            # A header may begin with #, too.
            count == columns and i + 1 < len(lines) and not lines[i + 1].startswith("#")
        )
        if not comment and (count >= min(columns, MIN_COLUMNS) or '"' in line):
            return i
    return next((i for i, line in enumerate(lines[start:], start) if line.strip()), start)


def _read(text: str, first: int, delimiter: str) -> Header:
    lines = Lines(io.StringIO(text, newline=""))
    for _ in range(first):
        next(lines)
    rows = csv.reader(lines, delimiter=delimiter)
    cells = next(row for row in rows if row)
    shown = delimiter.join(cells)
    first_line = shown if len(shown) <= 80 else f"{shown[:80]}…"
    numbered = len(cells) >= MIN_COLUMNS and cells == [str(i) for i in range(len(cells))]
    if not numbered and _is_row(cells):
        names = [str(i) for i in range(len(cells))]
        first_rows = [cells, *_rest(rows, 999)]
        return _fitted(Header(delimiter, names, first, True, first_line, first_rows))
    header_lines, table = lines.taken, [cells]
    for row in rows:
        if row and len(table) < 4 and len(row) == len(cells) >= MIN_COLUMNS and _is_words(row):
            table.append(row)
            header_lines = lines.taken
        elif row:
            first_rows = [row, *_rest(rows, 999)]
            break
    else:
        first_rows = []
    header = Header(delimiter, [], header_lines, numbered, first_line, first_rows, numbered)
    header.names = [cell.strip() for cell in _named(table, header)]
    return _fitted(header)


def _rest(rows: Iterator[list[str]], count: int) -> Iterator[list[str]]:
    """Further rows of the sample. Reading finds an open quote again, and can say more then."""
    try:
        yield from islice(rows, count)
    except csv.Error:
        return


def _fitted(header: Header) -> Header:
    """The header with as many names as rows have cells, where they differ by an empty last one."""
    counts = Counter(len(row) for row in header.rows if row)
    usual = counts.most_common(1)[0][0] if counts else len(header.names)
    last = [row[-1].strip() for row in header.rows if len(row) == usual]
    if usual == len(header.names) + 1 and 2 * last.count("") > len(last):
        header.names.append("")
        header.empty_last = True
    elif usual == len(header.names) - 1 and not header.names[-1]:
        header.names.pop()
    return header


def _named(table: list[list[str]], header: Header) -> list[str]:
    """The names of the columns, from a header of one line or more."""
    if len(table) == 1:
        return table[0]
    usual = [sum(plain_name(cell) in _USUAL for cell in row) for row in table]
    base = usual.index(max(usual))
    names = list(table[base])
    if not any(plain_name(name) in ALIASES["timestamp"] for name in names):
        for row in table:
            for column, cell in enumerate(row):
                if plain_name(cell) in ALIASES["timestamp"]:
                    names[column] = cell
    for row in (row for i, row in enumerate(table) if i != base):
        if plain_name(row[0]) in ALIASES["symbol"]:
            symbols = list(dict.fromkeys(cell.strip() for cell in row[1:] if cell.strip()))
            if len(symbols) > 1:
                raise SideBySideError(", ".join(symbols[:5]) + (", …" if len(symbols) > 5 else ""))
            header.symbol = symbols[0] if symbols else None
    header.notes.append(f"took the first {len(table)} lines of the table for its header")
    return names


def is_number(text: str) -> bool:
    """Whether a text is a number with a decimal point."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _is_numeric(cell: str) -> bool:
    # `nan` and `inf` have no digit, and may be names of columns.
    return any(sign.isdecimal() for sign in cell) and is_number(cell.strip().replace(",", "."))


def _is_row(cells: Sequence[str]) -> bool:
    """Whether a line holds values, and no names: a date and a number, or mostly numbers."""
    numbers = sum(map(_is_numeric, cells))
    return numbers > 0 and (2 * numbers >= len(cells) - 1 or any(_DATE.search(cell) for cell in cells))


def _is_words(cells: Sequence[str]) -> bool:
    """Whether a line below the header belongs to it: it holds words, and neither numbers nor a date."""
    return any(cell.strip() for cell in cells) and not any(
        _is_numeric(cell) or _DATE.search(cell) for cell in cells
    )
