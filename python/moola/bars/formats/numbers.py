"""Reads numbers as text files write them: which sign is the decimal mark, and which parts thousands.

A file has one format of numbers. Its cells must prove it: where they allow two formats, the file is refused. A dot
alone is a decimal mark, unless another cell of the file contradicts that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from moola.bars.formats.header import is_number
from moola.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Evidence", "NumberFormat", "marks_of", "parse_numbers", "thousands_sign"]

NO_VALUE = frozenset(
    [
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"),
    ]
)
"""The texts that pyarrow reads as "no value" in a column of numbers."""


class NumberFormat(NamedTuple):
    """How a file writes numbers."""

    decimal: str = "."
    thousands: str | None = None


def _shapes(mark: str, other: str) -> dict[str, str]:
    """Patterns of numbers that show what a mark means, `other` being the other one of comma and dot."""
    mark, other = re.escape(mark), re.escape(other)
    return {
        # Not three digits after it, more than three or a zero before it, or thousands parted by the other mark.
        "decimal": rf"\d*{mark}(\d{{1,2}}|\d{{4,}})|(0|\d{{4,}}){mark}\d+|{mark}\d+"
        rf"|\d{{1,3}}({other}\d{{3}})+{mark}\d*",
        # Twice, or before the other mark.
        "thousands": rf"\d{{1,3}}({mark}\d{{3}}){{2,}}({other}\d*)?|\d{{1,3}}{mark}\d{{3}}{other}\d*",
        "either": rf"[1-9]\d{{0,2}}{mark}\d{{3}}",
    }


_SHAPES = {
    (mark, shape): rf"^\s*[+-]?({pattern})\s*$"
    for mark, other in ((",", "."), (".", ","))
    for shape, pattern in _shapes(mark, other).items()
}
_COMPILED = {key: re.compile(pattern) for key, pattern in _SHAPES.items()}


class _Cell(NamedTuple):
    row: int
    column: str
    text: str


class Evidence:
    """What the numbers of a file prove about its format. The first cell of each shape is kept."""

    def __init__(self) -> None:
        self.first: dict[tuple[str, str], _Cell] = {}

    def see_texts(self, texts: Iterable[str], row: int, column: str) -> None:
        """Takes a few texts."""
        for i, text in enumerate(texts):
            if "," in text or "." in text:
                for key, pattern in _COMPILED.items():
                    if key not in self.first and pattern.match(text):
                        self.first[key] = _Cell(row + i, column, text.strip())

    def see(self, cells: Any, row: int, column: str) -> None:
        """Takes a column of Arrow, of text or bytes, that begins at a row of the file."""
        import pyarrow.compute as pc

        for key, pattern in _SHAPES.items():
            known = self.first.get(key)
            if known is None or known.row > row:
                at = pc.index(pc.match_substring_regex(cells, pattern), True).as_py()
                if at >= 0 and (known is None or row + at < known.row):
                    text = cells[at].as_py()
                    text = text.decode(errors="replace") if isinstance(text, bytes) else text
                    self.first[key] = _Cell(row + at, column, text.strip())

    def has(self, mark: str, shape: str) -> bool:
        return (mark, shape) in self.first

    @property
    def settled(self) -> bool:
        """Whether what was seen proves the decimal mark, so that the rest of the file need not be looked at first."""
        return self.has(",", "decimal") or not any(mark == "," for mark, _ in self.first)

    def settle(self, refusal: Callable[[str, str], InputError]) -> NumberFormat:
        """The one format that fits every cell seen. If none or two do, raises what `refusal` makes of that."""
        for one, two in (
            ((",", "decimal"), (",", "thousands")),
            ((".", "decimal"), (".", "thousands")),
            ((",", "decimal"), (".", "decimal")),
            ((",", "thousands"), (".", "thousands")),
        ):
            if one in self.first and two in self.first:
                raise refusal(
                    f"writes numbers in two ways: {self._said(one)}, and {self._said(two)}",
                    "Write all its numbers with one decimal mark and one thousands separator, or leave the column "
                    "out of --keep",
                )
        if self.has(",", "decimal"):
            return NumberFormat(",", "." if self.has(".", "thousands") or self.has(".", "either") else None)
        if self.has(",", "thousands"):
            return NumberFormat(".", ",")
        if self.has(",", "either"):
            if self.has(".", "decimal"):
                return NumberFormat(".", ",")
            if self.has(".", "thousands"):
                return NumberFormat(",", ".")
            cell = self.first[",", "either"]
            whole, point = cell.text.replace(",", ""), cell.text.replace(",", ".")
            raise refusal(
                f"has {cell.text} in row {cell.row + 1:,}, column {cell.column!r}, which may be {whole} (a comma "
                f"parts thousands) or {point} (a decimal comma), and both fit every number of the file",
                "Say which with --thousands , or with --decimal ,",
            )
        if self.has(".", "thousands"):
            return NumberFormat(",", ".")
        return NumberFormat()

    def _said(self, key: tuple[str, str]) -> str:
        mark, shape = key
        cell = self.first[key]
        name = "comma" if mark == "," else "dot"
        role = f"a decimal {name}" if shape == "decimal" else f"a {name} that parts thousands"
        return f"{cell.text} in row {cell.row + 1:,}, column {cell.column!r}, has {role}"


def parse_numbers(cells: Any, written: NumberFormat) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """A column of texts as [n] float64, NaN where there is no value; and [n] which cells are not numbers, if any.

    A thousands separator must part groups of three digits.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    decimal, thousands = re.escape(written.decimal), re.escape(written.thousands or "")
    whole = rf"(\d+|\d{{1,3}}({thousands}\d{{3}})+)" if thousands else r"\d+"
    pattern = rf"^\s*[+-]?({whole}({decimal}\d*)?|{decimal}\d+)([eE][+-]?\d+)?\s*$"
    right = pc.fill_null(pc.match_substring_regex(cells, pattern), False)
    texts = pc.if_else(right, cells, pa.scalar(None, cells.type)).cast(pa.string())
    texts = pc.replace_substring_regex(texts, r"^\s*\+?|\s+$", "")
    if written.thousands:
        texts = pc.replace_substring(texts, written.thousands, "")
    if written.decimal != ".":
        texts = pc.replace_substring(texts, written.decimal, ".")
    numbers = texts.cast(pa.float64())
    values = np.array(numbers.fill_null(np.nan), np.float64)
    bad = np.zeros(len(values), np.bool_)
    for row in np.flatnonzero(~np.array(right)).tolist():
        cell = cells[row].as_py()
        text = (cell.decode(errors="replace") if isinstance(cell, bytes) else cell or "").strip()
        if text in NO_VALUE:
            continue
        # Infinities, which are refused as such.
        if is_number(text) and not any(sign.isdecimal() for sign in text):
            values[row] = float(text)
        else:
            bad[row] = True
    return values, bad if bad.any() else None


def thousands_sign(text: str) -> str | None:
    """The sign between the thousands of a number such as 1'002.5, where it is neither a comma nor a dot."""
    match = re.fullmatch(r"[+-]?\d{1,3}(['\u00a0\u202f _])\d{3}(\1\d{3})*([.,]\d*)?", text.strip())
    return match[1] if match else None


def marks_of(rows: Sequence[Sequence[str]], columns: Sequence[int], names: Sequence[str]) -> Evidence:
    """What the first rows of a file prove."""
    evidence = Evidence()
    for column in columns:
        evidence.see_texts([row[column] for row in rows], 0, names[column])
    return evidence
