"""The bars that a model saw in training, by symbol. Scores use them to separate seen windows from unseen ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moola.data.dataset import FastWindowedDataset

__all__ = ["MAY_HAVE_SEEN_ALL", "SeenBars"]

MAY_HAVE_SEEN_ALL = (
    "the encoder may have been pre-trained on bars of any of these windows: take all scores for those of windows that "
    "were seen"
)
"""The note for windows without known times."""


class SeenBars:
    """Stretches of time, by symbol, both ends inclusive, UTC nanoseconds of bars' open times.

    Bars of the validation split, on which a model was selected, count too: scores there are also too high. Symbols are
    known by name only: the same bars under another name count as others. Bars without a symbol belong to no known
    symbol.

    Args:
        stretches: By symbol, pairs of a first and a last time.
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
        """`[n]`: whether any bar of each window is known to be among them; see :meth:`unknown` for the others.

        Args:
            symbols: `[n]`, the symbol of each window, `""` for none.
            first, last: `[n]`, the times of its first and last bar.
        """
        return self._touched(symbols, first, last, lambda symbol: self.stretches.keys() & {symbol})

    def unknown(self, symbols: Sequence[str], first: ArrayLike, last: ArrayLike) -> NDArray[np.bool_]:
        """`[n]`: the windows of which it is unknown whether any bar is among them; arguments as of :meth:`seen`.

        If these bars are not `complete`, they are all windows not known to be seen. Otherwise they are those
        that share a moment with bars of which, or that of which, alone the symbol is known.
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
        """Notes on the scores of windows, if these are the bars of an encoder."""
        unknown = int(self.unknown(symbols, first, last).sum())
        if not unknown:
            return []
        why = (
            "either they, or the bars that it learned from at that time, name no symbol"
            if self.complete
            else "it also learned from windows without known times"
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
