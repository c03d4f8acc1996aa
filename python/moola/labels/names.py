"""Names of classes that are one class to a person, and two to a model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal

__all__ = ["other_spellings"]

_NUMBER = re.compile(r"[+-]?(\d{1,40}\.?\d{0,40}|\.\d{1,40})(e[+-]?\d{1,3})?", re.ASCII)


def other_spellings(names: Sequence[str], rows: Iterable[int]) -> dict[int, str]:
    """The rows whose name differs from a more frequent one only in case, blanks or the spelling of a number.

    Args:
        names: `[n]`, the class of each row.
        rows: The rows that have a class.

    Returns the more frequent name for each such row. Of two equally frequent names the first one stays.
    """
    counts = Counter(names[row] for row in rows)
    usual: dict[str, str] = {}
    for name, _ in counts.most_common():
        usual.setdefault(_same(name), name)
    other = {name: usual[_same(name)] for name in counts if usual[_same(name)] != name}
    return {row: other[name] for row, name in enumerate(names) if name in other} if other else {}


def _same(name: str) -> str:
    """Equal for names that a person reads as one."""
    plain = "".join(name.split()).casefold()
    if not _NUMBER.fullmatch(plain):
        return plain
    number = Decimal(plain)
    # Zero has many exponents and two signs.
    return "0" if not number else str(number.normalize())
