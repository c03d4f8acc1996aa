"""Which bars of which symbols a model has learned from: so that later scores can tell seen from unseen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moola.data.dataset import FastWindowedDataset

__all__ = ["LearnedBars"]


class LearnedBars:
    """Stretches of time, by symbol, both ends inclusive, UTC nanoseconds of bars' open times.

    Bars that a model was selected on (its validation split) count as well: a score there flatters too. Symbols are
    known by their names alone: the same bars under another name count as others.

    Args:
        stretches: By symbol, pairs of a first and a last time.
        complete: Whether that is all it has learned from; False where of some windows nobody knows when they were.
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

    def __or__(self, other: LearnedBars) -> LearnedBars:
        symbols = {*self.stretches, *other.stretches}
        none = np.empty((0, 2), np.int64)
        return LearnedBars(
            {
                s: [*self.stretches.get(s, none).tolist(), *other.stretches.get(s, none).tolist()]
                for s in symbols
            },
            complete=self.complete and other.complete,
        )

    def seen(self, symbols: Sequence[str], first: ArrayLike, last: ArrayLike) -> NDArray[np.bool_]:
        """Whether any bar of each window is among them; where they are not `complete`, False means that nobody knows.

        Args:
            symbols: `[n]`, the symbol of each window.
            first, last: `[n]`, the times of its first and last bar.
        """
        first, last = np.asarray(first, np.int64), np.asarray(last, np.int64)
        names = np.asarray(symbols, dtype=object)
        seen = np.zeros(len(first), bool)
        for symbol in set(names.tolist()) & self.stretches.keys():
            these = names == symbol
            spans = self.stretches[symbol]
            # The first stretch that does not end before the window begins.
            at = np.searchsorted(spans[:, 1], first[these])
            begins = np.append(spans[:, 0], np.iinfo(np.int64).max)[at]
            seen[these] = begins <= last[these]
        return seen

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        stretches = {symbol: spans.tolist() for symbol, spans in sorted(self.stretches.items())}
        return stretches if self.complete else {"complete": False, "stretches": stretches}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """What :meth:`record` gave. Raises `TypeError` or `ValueError` for what it cannot have given."""
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
