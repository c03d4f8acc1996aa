"""Several labels of one window: exact repeats are dropped, and different labels are refused."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moola.errors.listing import listed_rows
from moola.labels.refusals import Refusals
from moola.labels.table import LabelTable
from moola.settings.arrays import Numbers

__all__ = ["Labels", "resolve_labels"]


class Labels(NamedTuple):
    """The result of :func:`resolve_labels`. All arrays hold the kept rows, in the file's order."""

    kept: NDArray[np.intp]
    """`[n]`, the rows, counted from 0."""
    y: Numbers
    classes: tuple[str, ...]
    weight: NDArray[np.float64]
    notices: tuple[str, ...]


def resolve_labels(table: LabelTable, refusals: Refusals, window: Numbers, spans: Numbers) -> Labels:
    """The labels that count.

    Args:
        window: `[rows]`: the same number for rows of the same window.
        spans: `[rows, 2]`.

    Raises `LabelError` for all rows that were refused, here or before. Exact repeats are dropped.
    """
    texts = np.array(table.classes(refusals), np.str_)
    weight = table.weights(refusals)
    rows = np.arange(table.rows)
    # A row that is already refused repeats no other.
    key = np.where(refusals.refused, -1 - rows, window)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    first = first[inverse]
    # Compares each row with the first row of the same window.
    same = (texts == texts[first]) & (spans == spans[first]).all(axis=1) & (weight == weight[first])

    def described(row: int) -> str:
        span = "no span" if spans[row, 0] < 0 else f"bars {spans[row, 0]} to {spans[row, 1]}"
        weighed = f", weight {weight[row]:g}" if table.has("weight") else ""
        return f"{str(texts[row])!r}, {span}{weighed}"

    refusals.add(
        "different_labels",
        ~same,
        lambda row: f"{described(row)}; row {first[row] + 1:,} has {described(int(first[row]))}",
    )
    refusals.check()
    kept = np.flatnonzero(first == rows)
    repeats = (np.flatnonzero(first != rows) + 1).tolist()
    notices: tuple[str, ...] = ()
    if repeats:
        repeat, were = ("repeat", "were") if len(repeats) > 1 else ("repeats", "was")
        notices = (f"{listed_rows(repeats)} {repeat} another exactly and {were} dropped",)
    classes, y = np.unique(texts[kept], return_inverse=True)
    return Labels(kept, y.astype(np.int64), tuple(classes.tolist()), weight[kept], notices)
