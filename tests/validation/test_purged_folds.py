"""Folds of labelled windows: stratified, grouped, repeated and purged."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import make_windows
from validated import of_market

import moola
from moola.errors import (
    ConfigError,
    LabelError,
    MoolaError,
    SplitError,
    StaleStoreError,
)
from moola.estimators import make_member
from moola.evaluation.permutation import permute_groups
from moola.folds.shared_bars import assert_no_shared_bars
from moola.labels import LabelledWindows, read_labels
from moola.validation import (
    CrossValidation,
    cross_validate,
    purged_folds,
    stack,
)

# One process makes what is made once per process.
pytestmark = pytest.mark.xdist_group("validation")


@settings(max_examples=40, deadline=None)
@given(step=st.integers(3, 40), embargo=st.integers(0, 60), seed=st.integers(0, 99), data=st.data())
def test_no_fold_trains_on_bars_that_it_tests(
    step: int, embargo: int, seed: int, data: st.DataObject
) -> None:
    # Groups that import-labels would not give: purging must be enough.
    windows = make_windows(60, bars=12, step=step)
    repeat = data.draw(st.integers(0, 5))
    try:
        folds = purged_folds(windows, 4, seed=seed, repeat=repeat, embargo=embargo)
    except SplitError:
        return
    assert np.array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(60))
    for train, test in folds:
        assert_no_shared_bars(windows.starts, windows.ends, train, test)
        after = windows.starts[train][:, None] - windows.ends[test]
        assert not ((after > 0) & (after <= embargo)).any()
        # And nothing else is purged.
        near = (windows.starts[:, None] <= windows.ends[test] + embargo) & (
            windows.ends[:, None] >= windows.starts[test]
        )
        assert set(np.flatnonzero(~near.any(axis=1))) == set(train.tolist())


def test_folds_are_stratified_grouped_and_repeated() -> None:
    windows = make_windows(60, groups=np.repeat(np.arange(30), 2))
    repeats = [purged_folds(windows, 5, seed=3, repeat=repeat) for repeat in (0, 0, 1)]
    for train, test in repeats[0]:
        assert not set(windows.groups[train]) & set(windows.groups[test])
        assert abs(windows.y[test].mean() - 0.5) <= 0.2
    tests = [[test.tolist() for _, test in folds] for folds in repeats]
    assert tests[0] == tests[1] != tests[2]
    assert tests[0] != [test.tolist() for _, test in purged_folds(windows, 5, seed=4)]


def test_windows_of_several_symbols_are_purged_in_time(market: Path) -> None:
    windows = of_market(market)
    for train, test in purged_folds(windows, 5, seed=0, store=market, embargo=3):
        assert not np.isin(test % 40, train % 40).any()
        with moola.FeatureStore.open(market) as store:
            assert_no_shared_bars(windows.starts, windows.ends, train, test, times=store.timestamps)


def test_windows_of_several_symbols_at_one_time_are_one_group(market: Path, tmp_path: Path) -> None:
    """In folds, in the bootstrap and in the permutation test, as in finetune."""
    with moola.FeatureStore.open(market) as store:
        first = next(segment.first_row for segment in store.segments if segment.symbol == "SIM2")
        times = store.timestamps
        rows = 300 + 60 * np.arange(30)
        rows = np.concatenate([rows, first + rows + 7])
        labels = pa.table({"window_end": rows, "class": ["a", "b"] * 30})
        windows = read_labels(labels, store, window_length=24)
        apart = (times[windows.ends[:30]] - times[windows.ends[30:]]) // 60_000_000_000
        assert (np.abs(apart) < 24).all(), "this market has both symbols at the same times"
    assert windows.groups.tolist() == [*range(30), *range(30)]
    assert "overlap: 60 windows share bars, or their times, with others, in 30 groups" in "\n".join(
        windows.report()
    )
    members = {"one": make_member("regression"), "two": make_member("regression")}
    for found in (
        cross_validate(windows, members, store=market),
        stack(windows, members, inner_folds=3, store=market),
    ):
        assert found.truth.n_groups == 30
        for train, test in found.splits[0]:
            assert not set(train % 30) & set(test % 30)
    assert CrossValidation.load(found.save(tmp_path / "kept")).truth.n_groups == 30
    order = permute_groups(found.truth.groups, np.random.default_rng(0))
    assert (order[:30] == order[30:] - 30).all()


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (make_windows, {"folds": 1}, ConfigError, "folds: 1 is not a number of folds; give 2 or more"),
        (
            lambda: make_windows(8),
            {},
            LabelError,
            "2 classes",
        ),
        (
            lambda: make_windows(groups=np.arange(40) // 10),
            {},
            ConfigError,
            "folds: 5 are more than the 4 groups of windows that share bars or their times; give 4 or fewer",
        ),
        (
            lambda: make_windows(bars=24, step=2),
            {"embargo": 100},
            SplitError,
            "fold 1 of 5 has no window of class 'none' to train on: windows that share bars stay together, and those "
            "near test windows are purged. Give more windows of this class from other days, fewer folds, or a "
            "smaller embargo",
        ),
        (
            lambda: make_windows(of_store=False),
            {"embargo": 1},
            ConfigError,
            "embargo: needs the places of windows, which pre-cut windows lack; give 0",
        ),
        (
            lambda: make_windows(of_store=False),
            {"store": "store"},
            ConfigError,
            "store: cannot be combined with pre-cut windows; leave it out",
        ),
        (
            lambda: make_windows(symbols=np.array(["A", "B"] * 20)),
            {},
            ConfigError,
            "store: is missing; windows of 2 symbols can only be compared in time, so give the labelled store",
        ),
    ],
)
def test_impossible_folds_are_refused(
    make: Callable[[], LabelledWindows], options: dict[str, Any], error: type[MoolaError], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        purged_folds(make(), **{"folds": 5, "seed": 0} | options)


def test_another_store_is_refused(market: Path) -> None:
    with pytest.raises(StaleStoreError):
        purged_folds(make_windows(), seed=0, store=market)
    with pytest.raises(ConfigError, match=r"^store: is not the labelled store; give that store, or import"):
        purged_folds(make_windows(), seed=0, store=moola.FeatureStore.open(market))
