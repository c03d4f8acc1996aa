"""Folds of labelled windows: stratified, grouped, purged, and as many times over as one likes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from moola.errors import ConfigError, SplitError
from moola.folds.shared_bars import assert_no_shared_bars
from moola.labels.refusals import check_folds
from moola.labels.windows import LabelledWindows
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

Numbers: TypeAlias = NDArray[np.int64]
TrainTest: TypeAlias = tuple[Numbers, Numbers]
StorePath: TypeAlias = str | os.PathLike[str] | FeatureStore

_BEFORE_ALL = np.iinfo(np.int64).min


def purged_folds(
    windows: LabelledWindows,
    folds: int = 5,
    *,
    seed: int,
    repeat: int = 0,
    embargo: int = 0,
    store: StorePath | None = None,
) -> list[TrainTest]:
    """Folds that test each window once, on models that have seen none of its bars.

    Groups are dealt out whole, in an order of the seed's, so that every fold has about its share of each class. Then
    training windows are dropped that share a bar with a test window, or begin within the embargo after one. Contiguous
    blocks in time, as of :class:`moola.folds.purged.PurgedKFold`, could be neither stratified nor repeated.

    Args:
        windows: Labelled windows. For models that are given longer windows of the same samples too, what
            :func:`moola.labels.together` makes of all.
        folds: 2 or more.
        seed: Of the dealing.
        repeat: Other folds for each number, from 0 on.
        embargo: Bars after each test window in which no training window begins.
        store: The store that was labelled. With it windows are compared in time, whatever their symbols: markets move
            together. It is needed where there are several symbols.

    Returns:
        (train, test), numbers of windows, ascending. Windows that were cut beforehand, of which nobody knows when they
        were, are kept apart by their groups alone.

    Raises `LabelError` for classes with fewer windows than folds, `SplitError` where groups or purging leave a fold
    without a class, `StaleStoreError` and `ConfigError` for a store that is missing or another.
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
    intervals = _intervals(windows, embargo, store)
    state = int(np.random.SeedSequence([whole_number("seed", seed, 0), repeat]).generate_state(1)[0])
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=state)
    with warnings.catch_warnings():
        # Of a class in fewer groups than folds; what matters of it is checked below.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        dealt = list(splitter.split(windows.y, windows.y, windows.groups))
    found = []
    for fold, (train, test) in enumerate(dealt):
        kept = train if intervals is None else train[~_reaches(intervals, train, test)]
        missing = np.setdiff1d(np.unique(windows.y), windows.y[kept])
        if not len(test) or len(missing):
            what = (
                f"no window of class {windows.classes[missing[0]]!r} to train on"
                if len(missing)
                else "no window"
            )
            raise SplitError(
                f"fold {fold + 1} of {folds} has {what}: windows that share bars stay together, and those near what is "
                "tested are purged",
                "Give more windows of this class from other days, fewer folds, or a smaller embargo",
            )
        found.append((kept.astype(np.int64), test.astype(np.int64)))
    check_purged(windows, found, store)
    return found


def check_comparable(windows: LabelledWindows, store: StorePath | None) -> None:
    """Checks that :func:`purged_folds` could tell which of these windows lie near each other, with this store or none.

    Raises what it raises for a store that is missing, or another.
    """
    _intervals(windows, 0, store)


def check_purged(windows: LabelledWindows, splits: Iterable[TrainTest], store: StorePath | None) -> None:
    """Raises `SharedBarsError` where a fold trains on bars that it tests, of the longest windows that any model has.

    Args:
        windows: Labelled windows; of those that were cut beforehand only their groups can be compared, not their bars.
        splits: (train, test) of each fold.
        store: The store that was labelled. With it a bar is shared also where its time is, whatever the symbols.
    """
    if not windows.store_id:
        return
    times = None if store is None else open_labelled_store(windows, store).timestamps
    for train, test in splits:
        assert_no_shared_bars(windows.label_starts, windows.label_ends, train, test, times=times)


def open_labelled_store(windows: LabelledWindows, store: StorePath) -> FeatureStore:
    """The store that these windows were labelled in. Raises `StaleStoreError` when it is another."""
    if isinstance(store, FeatureStore):
        if store.id != windows.store_id:
            raise ConfigError(
                "store", "is not the one that was labelled; give that, or import the labels anew"
            )
        return store
    return FeatureStore.open(store, expected_id=windows.store_id)


def _intervals(
    windows: LabelledWindows, embargo: int, store: StorePath | None
) -> tuple[Numbers, Numbers, Numbers] | None:
    """`[n]` each: where windows begin on the axis, where less the embargo, and where they end; None if unknown."""
    if not windows.store_id:
        if embargo:
            raise ConfigError(
                "embargo", "needs to know where windows lie, and these were cut beforehand; give 0"
            )
        if store is not None:
            raise ConfigError("store", "goes with no windows that were cut beforehand; leave it out")
        return None
    starts, ends = windows.label_starts, windows.label_ends
    earlier = starts - embargo
    if store is None:
        if (symbols := len(np.unique(windows.symbols))) > 1:
            raise ConfigError(
                "store",
                f"is missing; windows of {symbols} symbols can only be compared in time, so give the store that was "
                "labelled",
            )
        return starts, earlier, ends
    times = open_labelled_store(windows, store).timestamps
    begin, before = times[starts], times[np.maximum(earlier, 0)]
    # Beyond the symbol's first bar time goes back, or there is none.
    before = np.where((earlier < 0) | (before > begin), _BEFORE_ALL, before)
    return begin, before, times[ends]


def _reaches(
    intervals: tuple[Numbers, Numbers, Numbers], train: NDArray[np.intp], test: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Which training windows share bars with a test window, or begin within the embargo after one."""
    begin, before, end = intervals
    by_begin = test[np.argsort(begin[test], kind="stable")]
    latest_end = np.maximum.accumulate(end[by_begin])
    earlier = np.searchsorted(begin[by_begin], end[train], side="right")
    reaches: NDArray[np.bool_] = (earlier > 0) & (latest_end[earlier - 1] >= before[train])
    return reaches
