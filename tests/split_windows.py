"""Windows to split, drawn by hypothesis or evenly spaced, and comparisons of splits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from tiny_store import MINUTE, START

from moola.splits import (
    CombinatorialPurgedKFold,
    PurgedKFold,
    Segment,
    WalkForward,
)

SPLITTERS = (WalkForward, PurgedKFold, CombinatorialPurgedKFold)
Lists = list[tuple[list[int], list[int]]]


def lists(splits: Iterable[tuple[np.ndarray, np.ndarray]]) -> Lists:
    return [(train.tolist(), test.tolist()) for train, test in splits]


STARTS = np.arange(0, 1000, 5)
ENDS = STARTS + 19
TIMES = START + np.arange(20, dtype=np.int64) * MINUTE


class Case(NamedTuple):
    """Unsorted windows that may overlap, share a start, or be equal; of one symbol or several."""

    starts: np.ndarray
    ends: np.ndarray
    label_ends: np.ndarray | None
    times: np.ndarray | None
    symbols: np.ndarray | None

    @property
    def arguments(self) -> dict[str, Any]:
        return self._asdict()

    @property
    def last(self) -> list[int]:
        """The last bar of each window, or of its label if that is later."""
        label_ends = self.ends if self.label_ends is None else self.label_ends
        return [max(pair) for pair in zip(self.ends.tolist(), label_ends.tolist(), strict=True)]

    def time(self, row: int) -> int:
        return int(row if self.times is None else self.times[row])

    def spans(self) -> list[tuple[int, int]]:
        """The begin and end of each window, including its label."""
        return [
            (self.time(first), self.time(last))
            for first, last in zip(self.starts.tolist(), self.last, strict=True)
        ]

    def bars(self, window: int) -> list[int]:
        """The times of the symbol's bars: all known bars."""
        if self.times is None:
            return list(range(-50, 120))
        if self.symbols is None:
            return self.times.tolist()
        same = [i for i in range(len(self.starts)) if self.symbols[i] == self.symbols[window]]
        first, last = min(int(self.starts[i]) for i in same), max(self.last[i] for i in same)
        return self.times[first : last + 1].tolist()


@st.composite
def windows(draw: st.DrawFn, *, least: int = 2) -> Case:
    kind = draw(st.sampled_from(["rows", "times", "panel"]))
    labels = draw(st.booleans())
    symbols = draw(st.integers(2, 4)) if kind == "panel" else 1
    offset = draw(st.integers(-20, 20)) if kind == "rows" else 0
    starts, ends, label_ends, names, times = [], [], [], [], []
    for symbol in range(symbols):
        bars = draw(st.integers(4, 40))
        at = draw(st.integers(0, 30))
        for _ in range(bars):
            times.append(at)
            at += draw(st.sampled_from([1, 1, 1, 2, 15])) if kind != "rows" else 1
        first = len(times) - bars
        for _ in range(draw(st.integers(least, 14))):
            start = draw(st.integers(0, bars - 1))
            end = draw(st.integers(start, min(start + 8, bars - 1)))
            starts.append(offset + first + start)
            ends.append(offset + first + end)
            label_ends.append(offset + first + draw(st.integers(start, min(end + 10, bars - 1))))
            names.append(f"S{symbol}")
    order = np.array(draw(st.permutations(range(len(starts)))))
    return Case(
        np.array(starts)[order],
        np.array(ends)[order],
        np.array(label_ends)[order] if labels else None,
        np.array(times) if kind != "rows" else None,
        np.array(names)[order] if kind == "panel" else None,
    )


def overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def panel(bars: int, symbols: int) -> tuple[np.ndarray, list[Segment]]:
    times = START + np.arange(bars, dtype=np.int64) * MINUTE
    segments = [
        Segment(f"S{k}", k * bars, (k + 1) * bars - 1, int(times[0]), int(times[-1]), MINUTE, k * bars)
        for k in range(symbols)
    ]
    return np.tile(times, symbols), segments
