"""Folds of labelled windows: stratified, grouped, purged and repeatable."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np

from moola.errors import ConfigError, SplitError
from moola.folds.shared_bars import assert_no_shared_bars
from moola.folds.stratified import StratifiedPurgedKFold, deal_groups
from moola.labels.refusals import check_folds
from moola.labels.windows import LabelledWindows
from moola.settings.arrays import Numbers
from moola.settings.whole_numbers import whole_number
from moola.store.reader import FeatureStore

__all__ = [
    "StorePath",
    "TrainTest",
    "check_comparable",
    "check_purged",
    "open_labelled_store",
    "purged_folds",
]

TrainTest: TypeAlias = tuple[Numbers, Numbers]
StorePath: TypeAlias = str | os.PathLike[str] | FeatureStore


def purged_folds(
    windows: LabelledWindows,
    folds: int = 5,
    *,
    seed: int,
    repeat: int = 0,
    embargo: int = 0,
    store: StorePath | None = None,
) -> list[TrainTest]:
    """Folds that test each window once, with a model that has seen none of its bars.

    :class:`moola.folds.StratifiedPurgedKFold` deals them: groups stay whole, every fold has about its share of each
    class, and training drops the windows that share a bar with a test window or begin within the embargo after one.
    Cross-validation, fine-tuning, stacks and sweeps all take their folds from here.

    Args:
        windows: Labelled windows. If some models are given longer windows of the same samples, pass the result of
            :func:`moola.labels.together`.
        folds: Number of folds, 2 or more.
        seed: Determines the folds.
        repeat: Number of the repeat, from 0; each gives other folds with the same seed.
        embargo: Number of bars after each test window in which no training window begins.
        store: The labelled store. With it, windows are compared in time, across symbols, because markets move
            together. It is required for several symbols.

    Returns:
        (train, test) of each fold, ascending numbers of windows. The places of pre-cut windows are unknown; only their
        groups keep them apart.

    Raises `LabelError` for classes with fewer windows than folds, `SplitError` if groups or purging leave a fold
    without a class, and `StaleStoreError` or `ConfigError` for a missing or another store.
    """
    check_folds(windows.y, windows.classes, folds)
    embargo = whole_number("embargo", embargo, 0)
    groups = len(np.unique(windows.groups))
    if groups < folds:
        raise ConfigError(
            "folds",
            f"{folds} are more than the {groups} groups of windows that share bars or their times; give {groups} or "
            "fewer",
        )
    seed, repeat = whole_number("seed", seed, 0), whole_number("repeat", repeat, 0)
    splitter = _splitter(windows, folds, seed, repeat, embargo, store)
    dealt = (
        deal_groups(windows.y, windows.groups, folds, seed=seed, repeat=repeat)
        if splitter is None
        else splitter.split(y=windows.y, groups=windows.groups)
    )
    found = []
    for fold, (kept, test) in enumerate(dealt):
        missing = np.setdiff1d(np.unique(windows.y), windows.y[kept])
        if not len(test) or len(missing):
            what = (
                f"no window of class {windows.classes[missing[0]]!r} to train on"
                if len(missing)
                else "no window"
            )
            raise SplitError(
                f"fold {fold + 1} of {folds} has {what}: windows that share bars stay together, and those near test "
                "windows are purged",
                "Give more windows of this class from other days, fewer folds, or a smaller embargo",
            )
        found.append((kept.astype(np.int64), test.astype(np.int64)))
    check_purged(windows, found, store)
    return found


def check_comparable(windows: LabelledWindows, store: StorePath | None) -> None:
    """Checks that :func:`purged_folds` can compare these windows, with this store or with None.

    Raises the errors of :func:`purged_folds` for a missing or another store.
    """
    _splitter(windows, 2, 0, 0, 0, store)


def check_purged(windows: LabelledWindows, splits: Iterable[TrainTest], store: StorePath | None) -> None:
    """Raises `SharedBarsError` if a fold trains on bars that it tests. The longest windows of any model count.

    Args:
        windows: Labelled windows. Pre-cut windows are not checked here: their bars are unknown, and only their groups
            can be compared.
        splits: (train, test) of each fold.
        store: The labelled store. With it, bars of different symbols at the same time count as shared.
    """
    if not windows.store_id:
        return
    times = None if store is None else open_labelled_store(windows, store).timestamps
    for train, test in splits:
        assert_no_shared_bars(windows.label_starts, windows.label_ends, train, test, times=times)


def open_labelled_store(windows: LabelledWindows, store: StorePath) -> FeatureStore:
    """The store that these windows were labelled in.

    Raises `StaleStoreError` for a path to another store, and `ConfigError` for another open store.
    """
    if isinstance(store, FeatureStore):
        if store.id != windows.store_id:
            raise ConfigError(
                "store", "is not the labelled store; give that store, or import the labels again"
            )
        return store
    return FeatureStore.open(store, expected_id=windows.store_id)


def _splitter(
    windows: LabelledWindows, folds: int, seed: int, repeat: int, embargo: int, store: StorePath | None
) -> StratifiedPurgedKFold | None:
    """The splitter of these windows; None for pre-cut windows, because their places are unknown."""
    if not windows.store_id:
        if embargo:
            raise ConfigError("embargo", "needs the places of windows, which pre-cut windows lack; give 0")
        if store is not None:
            raise ConfigError("store", "cannot be combined with pre-cut windows; leave it out")
        return None
    times: Numbers | None = None
    symbols: Numbers | None = None
    if store is None:
        if (several := len(np.unique(windows.symbols))) > 1:
            raise ConfigError(
                "store",
                f"is missing; windows of {several} symbols can only be compared in time, so give the labelled store",
            )
    else:
        opened = open_labelled_store(windows, store)
        times, symbols = opened.timestamps, _runs_of(opened, windows.label_starts)
    return StratifiedPurgedKFold(
        windows.label_starts,
        windows.label_ends,
        folds,
        seed=seed,
        repeat=repeat,
        embargo=embargo,
        times=times,
        symbols=symbols,
    )


def _runs_of(store: FeatureStore, rows: Numbers) -> Numbers:
    """`[n]`: the number of the run that each row lies in. A run is bars of one symbol with ascending times."""
    firsts = [
        segment.first_row
        for number, segment in enumerate(store.segments)
        if number == 0
        or segment.symbol != store.segments[number - 1].symbol
        or segment.first_timestamp <= store.segments[number - 1].last_timestamp
    ]
    return np.searchsorted(np.array(firsts), rows, side="right") - 1
