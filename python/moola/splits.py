"""Splits of bars in time, and splitters for cross-validation. The names live in `moola.store` and `moola.folds`."""

from __future__ import annotations

from moola.folds.combinatorial import CombinatorialPurgedKFold
from moola.folds.purged import PurgedKFold
from moola.folds.shared_bars import assert_no_shared_bars
from moola.folds.walk_forward import WalkForward
from moola.store.segments import Segment
from moola.store.split_options import DEFAULT_FRACTIONS, NAMES, SplitOptions
from moola.store.splits import Split, Splits, make_splits
from moola.store.windows import Pieces, count_windows, window_pieces, window_starts

__all__ = [
    "DEFAULT_FRACTIONS",
    "NAMES",
    "CombinatorialPurgedKFold",
    "Pieces",
    "PurgedKFold",
    "Segment",
    "Split",
    "SplitOptions",
    "Splits",
    "WalkForward",
    "assert_no_shared_bars",
    "count_windows",
    "make_splits",
    "window_pieces",
    "window_starts",
]
