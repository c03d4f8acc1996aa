"""The bars that a model saw in training, by symbol. Scores use them to separate seen windows from unseen ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moola.data.dataset import FastWindowedDataset

__all__ = ["MAY_HAVE_SEEN_ALL", "SeenBars"]

MAY_HAVE_SEEN_ALL = (
    "the encoder may have been pre-trained on bars of any of these windows: "
    "treat all scores as scores of seen windows"
)
"""The note for windows without known times."""


class SeenBars:
    """The stretches of time of seen bars, by symbol: UTC nanoseconds of open times, both ends inclusive.

    Bars of the validation split, on which a model was selected, count too: scores there are also too high. Symbols are
    compared by name: the same bars under another name count as different. Bars without a symbol match no named
    symbol.

    Args:
        stretches: By symbol (`""` for none), pairs of a first and a last time.
        complete: Whether these are all bars seen in training; False if the times of some windows are unknown.
    """

    def __init__(self, stretches: Mapping[str, Iterable[Sequence[int]]], *, complete: bool = True) -> None:
        self.complete = complete
        self.stretches = {symbol: _merged(list(spans)) for symbol, spans in stretches.items()}
        """By symbol `[n, 2]`, ascending and disjoint."""

    @classmethod
    def of(cls, *datasets: FastWindowedDataset) -> Self:
        """The bars of all windows of these datasets."""
        stretches: dict[str, list[tuple[int, int]]] = {}
        for dataset in datasets:
            times = [store.timestamps for store in dataset.stores]
            for symbol, store, first, last in dataset.stretches():
                span = (int(times[store][first]), int(times[store][last]))
                stretches.setdefault(symbol, []).append(span)
        return cls(stretches)

    def __or__(self, other: SeenBars) -> SeenBars:
        symbols = {*self.stretches, *other.stretches}
        none = np.empty((0, 2), np.int64)
        return SeenBars(
            {
                s: [*self.stretches.get(s, none).tolist(), *other.stretches.get(s, none).tolist()]
                for s in symbols
            },
            complete=self.complete and other.complete,
        )

    def seen(self, symbols: Sequence[str], first: ArrayLike, last: ArrayLike) -> NDArray[np.bool_]:
        """`[n]`: whether any bar of each window is known to have been seen; see :meth:`unknown` for the others.

        Args:
            symbols: `[n]`, the symbol of each window, `""` for none.
            first, last: `[n]`, the times of its first and last bar.
        """
        return self._touched(symbols, first, last, lambda symbol: self.stretches.keys() & {symbol})

    def unknown(self, symbols: Sequence[str], first: ArrayLike, last: ArrayLike) -> NDArray[np.bool_]:
        """`[n]`: whether it is unknown if any bar of each window was seen. Arguments as in :meth:`seen`.

        If these bars are not `complete`, this holds for all windows that are not known to be seen. Otherwise it holds
        for those that overlap in time with these bars where only one side has a symbol.
        """
        seen = self.seen(symbols, first, last)
        if not self.complete:
            return ~seen

        def perhaps(symbol: str) -> Set[str]:
            return self.stretches.keys() - {""} if symbol == "" else self.stretches.keys() & {""}

        return self._touched(symbols, first, last, perhaps) & ~seen

    def _touched(
        self, symbols: Sequence[str], first: ArrayLike, last: ArrayLike, whose: Callable[[str], Set[str]]
    ) -> NDArray[np.bool_]:
        """`[n]`: whether each window touches a stretch of one of the symbols that may be its own."""
        first, last = np.asarray(first, np.int64), np.asarray(last, np.int64)
        names = np.asarray(symbols, dtype=object)
        touched = np.zeros(len(first), bool)
        for symbol in set(names.tolist()):
            these = names == symbol
            for other in whose(symbol):
                spans = self.stretches[other]
                # The first stretch that does not end before the window begins.
                at = np.searchsorted(spans[:, 1], first[these])
                begins = np.append(spans[:, 0], np.iinfo(np.int64).max)[at]
                touched[these] |= begins <= last[these]
        return touched

    def notes(self, symbols: Sequence[str], first: ArrayLike, last: ArrayLike) -> list[str]:
        """Notes for a report on windows, if these are the bars that an encoder was pre-trained on."""
        unknown = int(self.unknown(symbols, first, last).sum())
        if not unknown:
            return []
        why = (
            "either they or the encoder's bars of that time have no symbol"
            if self.complete
            else "it was also trained on windows without known times"
        )
        return [
            f"the encoder may have been pre-trained on bars of {unknown:,} of {len(symbols):,} windows, which count as "
            f"unseen: {why}"
        ]

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        stretches = {symbol: spans.tolist() for symbol, spans in sorted(self.stretches.items())}
        return stretches if self.complete else {"complete": False, "stretches": stretches}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """Reads a :meth:`record`. Raises `TypeError` or `ValueError` for anything else."""
        # No symbol's stretches are False.
        complete = record.get("complete") is not False
        return cls(record if complete else record.get("stretches", {}), complete=complete)


def _merged(spans: list[Sequence[int]]) -> NDArray[np.int64]:
    merged: list[list[int]] = []
    for first, last in sorted((int(a), int(b)) for a, b in spans):
        if merged and first <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    return np.array(merged, np.int64).reshape(-1, 2)
