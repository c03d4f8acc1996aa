"""Windows as nested lists, one row per window. They are read by their offsets, without Python objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moola import _core
from moola.bars.formats.inputs import Input, is_type, nulls_of, values_of
from moola.bars.source import MAX_SAMPLES
from moola.errors import InputError
from moola.labels.overlaps import hash_bars
from moola.labels.table import WINDOWS_AT_A_TIME
from moola.settings.arrays import Numbers

if TYPE_CHECKING:
    from moola.labels.refusals import Refusals

__all__ = ["NestedBars"]

Flags: TypeAlias = NDArray[np.bool_]
Windows: TypeAlias = NDArray[np.float64]

_LISTS = ("list", "large_list", "fixed_size_list")
_NUMBERS = ("floating", "integer", "decimal")


class NestedBars:
    """Writes windows of nested lists as a store's `bars.npy`, part by part, and finds malformed windows.

    Use it as a context manager: the file is complete at its end.
    """

    def __init__(self, path: Path, length: int) -> None:
        self.length = length
        self.rows = 0
        """Windows so far."""
        self._file = path.open("wb")
        # The shape is not known yet, but headers of all shapes have the same size.
        self._file.write(_core.npy_header("<f8", (0, 4)))
        self._hashes: list[NDArray[np.uint64]] = []
        self._malformed: dict[str, list[Numbers]] = {}
        self._samples: dict[str, dict[int, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.seek(0)
        self._file.write(_core.npy_header("<f8", (self.rows * self.length, 4)))
        self._file.close()

    def take(self, source: Input, name: str, column: Any) -> None:
        """Takes the next windows. Raises `InputError` unless the column has lists of lists of numbers."""
        for low in range(0, len(column), WINDOWS_AT_A_TIME):
            windows = self._read(source, name, column.slice(low, WINDOWS_AT_A_TIME))
            self._hashes.append(hash_bars(windows))
            self._file.write(windows.data)
            self.rows += len(windows)

    def hashes(self) -> NDArray[np.uint64]:
        """`[n, K]`: the hashes of all bars, from :func:`moola.labels.overlaps.hash_bars`."""
        return np.concatenate(self._hashes)

    def refuse(self, refusals: Refusals) -> None:
        """Refuses every malformed window."""
        for kind, rows in self._malformed.items():
            which = np.zeros(self.rows, np.bool_)
            which[np.concatenate(rows)] = True
            refusals.add(kind, which, self._samples[kind].__getitem__)

    def _read(self, source: Input, name: str, part: Any) -> Windows:
        """`[m, K, 4]`, C-contiguous; malformed windows hold 1 throughout."""
        outer, no_bars, bars = _lists(source, name, part)
        inner, no_numbers, numbers = _lists(source, name, bars)
        if not any(is_type(kind, numbers.type) for kind in _NUMBERS):
            raise _wrong_type(source, name, part.type)
        values, _ = source.floats(numbers)

        bar_counts, number_counts = np.diff(outer), np.diff(inner)
        number_counts[no_numbers] = -1
        wrong_so_far = np.append(0, np.cumsum(number_counts != 4))
        wrong_numbers = wrong_so_far[outer[1:]] > wrong_so_far[outer[:-1]]

        def first_wrong(row: int) -> str:
            counts = number_counts[outer[row] : outer[row + 1]]
            bar = int(np.argmax(counts != 4))
            return f"bar {bar} is {'null' if counts[bar] < 0 else f'{counts[bar]} numbers'}"

        good = np.ones(len(part), np.bool_)
        self._note("no_bars", no_bars, good, lambda row: f"{name} is null")
        self._note(
            "bar_count",
            bar_counts != self.length,
            good,
            lambda row: f"{bar_counts[row]:,} bars, not {self.length:,}",
        )
        self._note("number_count", wrong_numbers, good, first_wrong)
        shape = (-1, self.length, 4)
        if good.all():
            # Every list has the right length, so all numbers are contiguous.
            windows = np.ascontiguousarray(values).reshape(shape)
        else:
            first = inner[outer[:-1][good]]
            windows = np.ones((len(part), self.length, 4))
            windows[good] = values[first[:, None] + np.arange(4 * self.length)].reshape(shape)
        self._check(windows, good)
        return windows

    def _check(self, windows: Windows, good: Flags) -> None:
        """Notes windows with invalid candles, by the rules for bars of a store."""
        open_, high, low, close = (windows[:, :, price] for price in range(4))
        finite = np.isfinite(windows).all(axis=2)
        # Prices rounded to float32 keep their order, because rounding is monotone.
        candle = (low <= np.minimum(open_, close)) & (np.maximum(open_, close) <= high)
        candle &= (low >= np.finfo(np.float32).tiny) & (high <= np.finfo(np.float32).max)
        for kind, sound in (("not_finite", np.asarray(finite)), ("not_a_candle", candle)):

            def first_bad(row: int, sound: Flags = sound) -> str:
                bar = int(np.argmin(sound[row]))
                prices = zip(("open", "high", "low", "close"), windows[row, bar].tolist(), strict=True)
                return f"bar {bar}: {', '.join(f'{name} = {price}' for name, price in prices)}"

            self._note(kind, np.asarray(~sound.all(axis=1)), good, first_bad)

    def _note(self, kind: str, which: Flags, good: Flags, what: Callable[[int], str]) -> None:
        """Records newly malformed windows of this part, and describes the first of them."""
        fresh = np.flatnonzero(which & good)
        if not len(fresh):
            return
        good[fresh] = False
        samples = self._samples.setdefault(kind, {})
        samples |= {self.rows + row: what(row) for row in fresh[: MAX_SAMPLES - len(samples)].tolist()}
        self._malformed.setdefault(kind, []).append(self.rows + fresh)


def _lists(source: Input, name: str, column: Any) -> tuple[Numbers, Flags, Any]:
    """A column of n lists: its offsets `[n + 1]` into the values, which lists are null `[n]`, and the values."""
    if not any(is_type(kind, column.type) for kind in _LISTS):
        raise _wrong_type(source, name, column.type)
    nulls = nulls_of(column)
    if is_type("fixed_size_list", column.type):
        size = column.type.list_size
        offsets = (column.offset + np.arange(len(column) + 1)) * size
    else:
        offsets = values_of(column.offsets).astype(np.int64)
    begin, end = int(offsets[0]), int(offsets[-1])
    values = column.values.slice(begin, end - begin)
    return offsets - begin, np.zeros(len(column), np.bool_) if nulls is None else nulls, values


def _wrong_type(source: Input, name: str, dtype: Any) -> InputError:
    return source.refusal(
        f"column {name!r} has the wrong type {dtype}; a window is a list of bars, and a bar a list of four numbers",
        "Name the right column with --columns FILE_COLUMN=features",
    )
