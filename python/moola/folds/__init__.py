"""Folds of windows: splitters, the dealing of labelled windows to folds, and the purge that all of them use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.folds.combinatorial import CombinatorialPurgedKFold as CombinatorialPurgedKFold
    from moola.folds.dealing import purged_folds as purged_folds
    from moola.folds.purged import PurgedKFold as PurgedKFold
    from moola.folds.shared_bars import assert_no_shared_bars as assert_no_shared_bars
    from moola.folds.stratified import StratifiedPurgedKFold as StratifiedPurgedKFold
    from moola.folds.walk_forward import WalkForward as WalkForward

_HOMES = {
    "CombinatorialPurgedKFold": "moola.folds.combinatorial",
    "PurgedKFold": "moola.folds.purged",
    "StratifiedPurgedKFold": "moola.folds.stratified",
    "WalkForward": "moola.folds.walk_forward",
    "assert_no_shared_bars": "moola.folds.shared_bars",
    "purged_folds": "moola.folds.dealing",
}

__all__ = [
    "CombinatorialPurgedKFold",
    "PurgedKFold",
    "StratifiedPurgedKFold",
    "WalkForward",
    "assert_no_shared_bars",
    "purged_folds",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
