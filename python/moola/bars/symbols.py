"""Symbols and contracts of bars: their codes, and which of them are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from moola.bars.formats.inputs import is_type, nulls_of, text_of, values_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Names", "SymbolFilter", "first_other"]


class Names:
    """Symbols or contracts. The code of each is its place in a list that grows. Blanks around a name do not count."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._codes: dict[str, int] = {}

    def code(self, name: str) -> int:
        """The code of a name, which is new or known."""
        name = name.strip()
        if name not in self._codes:
            self._codes[name] = len(self._names)
            self._names.append(name)
        return self._codes[name]

    def codes(self, column: Any, missing: Callable[[int], Exception]) -> NDArray[np.int32]:
        """[n] the codes of a column. Raises what `missing` makes of the first row without a name."""
        if column.null_count == 0:
            encoded = column if is_type("dictionary", column.type) else column.dictionary_encode()
            indices = values_of(encoded.indices)
            # A dictionary may hold names that this batch does not.
            used = np.flatnonzero(np.bincount(indices, minlength=len(encoded.dictionary)))
            values = {i: text_of(encoded.dictionary[i]).strip() for i in used.tolist()}
            if all(values.values()):
                lookup = np.zeros(len(encoded.dictionary), np.int32)
                for i, value in values.items():
                    lookup[i] = self.code(value)
                return cast("NDArray[np.int32]", lookup[indices])
        raise missing(next(row for row in range(len(column)) if not text_of(column[row]).strip()))


def first_other(column: Any, name: str) -> int | None:
    """The first row of a column of names that is not this name; None where all are."""
    encoded = column if is_type("dictionary", column.type) else column.dictionary_encode()
    others = np.array([text_of(value).strip() != name.strip() for value in encoded.dictionary] or [True])
    null = nulls_of(encoded.indices)
    indices = values_of(encoded.indices)
    differs = others[indices] if null is None else null | others[np.where(null, 0, indices)]
    return int(np.argmax(differs)) if differs.any() else None


class SymbolFilter:
    """Which symbols are read: those that match one of `symbols` (all, if there are none) and none of `excluded`."""

    def __init__(self, symbols: Sequence[str], excluded: Sequence[str]) -> None:
        self._symbols = symbols
        self._excluded = excluded
        self._left_out: set[str] = set()
        self.active = bool(symbols or excluded)
        self.rows = 0
        """Rows left out so far."""

    def wants(self, symbol: str) -> bool:
        """Whether the bars of a symbol are read."""
        wanted = not self._symbols or any(fnmatchcase(symbol, pattern) for pattern in self._symbols)
        wanted = wanted and not any(fnmatchcase(symbol, pattern) for pattern in self._excluded)
        if not wanted:
            self._left_out.add(symbol)
        return wanted

    def unwanted(self, codes: NDArray[np.int32] | None, symbols: Sequence[str]) -> NDArray[np.bool_] | None:
        """[n] the rows that are not read; None where all are."""
        if not self.active or codes is None or not len(codes):
            return None
        skipped = np.ones(len(symbols), np.bool_)
        for code in np.flatnonzero(np.bincount(codes, minlength=len(symbols))).tolist():
            skipped[code] = not self.wants(symbols[code])
        mask = skipped[codes]
        count = int(np.count_nonzero(mask))
        self.rows += count
        return mask if count else None

    def note(self) -> str | None:
        """How much was left out; None where nothing was."""
        if not self._left_out:
            return None
        names = sorted(self._left_out)
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        rows = f"{self.rows:,} rows of " if self.rows else ""
        return (
            f"left out {rows}{len(names):,} {'symbol' if len(names) == 1 else 'symbols'}, as asked: {shown}"
        )
