"""The purge, compared with its definition, and the folds that cross-validation and fine-tuning share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moola.errors import SplitError
from moola.folds import PurgedKFold, StratifiedPurgedKFold, assert_no_shared_bars
from moola.folds.purge import purged
from moola.folds.validation_share import part_by_share


@st.composite
def windows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    starts = np.array(draw(st.lists(st.integers(0, 200), min_size=2, max_size=30)), np.int64)
    lengths = np.array(
        draw(st.lists(st.integers(0, 40), min_size=len(starts), max_size=len(starts))), np.int64
    )
    return starts, starts + lengths, draw(st.integers(0, 50))


@given(windows(), st.data())
def test_purged_equals_its_definition(case: tuple[np.ndarray, np.ndarray, int], data: st.DataObject) -> None:
    begin, end, embargo = case
    side = np.array(data.draw(st.lists(st.booleans(), min_size=len(begin), max_size=len(begin))))
    train, test = np.flatnonzero(side), np.flatnonzero(~side)
    found = purged(begin, end, train, test, embargoed=begin - embargo)
    expected = [any(begin[t] <= end[w] and end[t] >= begin[w] - embargo for t in test) for w in train]
    assert found.tolist() == expected


@given(windows(), st.integers(2, 5), st.integers(0, 1000))
def test_stratified_splits_test_each_window_once_and_share_no_bar(
    case: tuple[np.ndarray, np.ndarray, int], folds: int, seed: int
) -> None:
    begin, end, embargo = case
    y = np.arange(len(begin)) % 2
    if np.bincount(y).min() < folds:
        return
    splitter = StratifiedPurgedKFold(begin, end, folds, seed=seed, embargo=embargo)
    tested = []
    for train, test in splitter.split(y=y):
        tested += test.tolist()
        assert_no_shared_bars(begin, end, train, test)
        # No training window begins within the embargo after a test window.
        after = begin[train][:, None] - end[test][None, :]
        assert not ((after > 0) & (after <= embargo)).any()
    assert sorted(tested) == list(range(len(begin)))
    again = StratifiedPurgedKFold(begin, end, folds, seed=seed, embargo=embargo)
    for (train, test), (same, too) in zip(splitter.split(y=y), again.split(y=y), strict=True):
        assert np.array_equal(train, same)
        assert np.array_equal(test, too)


@given(windows(), st.integers(2, 4))
def test_purging_against_a_block_equals_purging_against_its_windows(
    case: tuple[np.ndarray, np.ndarray, int], folds: int
) -> None:
    begin, end, embargo = case
    if len(np.unique(begin)) < folds:
        return
    every = np.arange(len(begin))
    try:
        splits = list(PurgedKFold(begin, end, folds, embargo=embargo).split())
    except SplitError:
        return
    for train, test in splits:
        kept = ~purged(begin, end, every, test, embargoed=begin - embargo)
        assert np.array_equal(train, np.flatnonzero(kept))


@given(
    st.lists(st.integers(0, 12), min_size=4, max_size=120),
    st.floats(0.05, 0.5),
    st.integers(0, 1 << 40),
)
def test_validation_has_the_requested_share_within_one_group(
    groups: list[int], share: float, seed: int
) -> None:
    group = np.array(groups)
    y = np.arange(len(group)) % 3
    try:
        train, validation = part_by_share(y, group, share, seed)
    except SplitError:
        return
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(y)))
    assert not set(group[train]) & set(group[validation])
    assert set(y[train]) == set(y)
    assert len(validation)
    largest = np.bincount(group).max()
    assert abs(len(validation) - share * len(y)) <= max(largest / 2, largest - share * len(y)) + 1e-9


@pytest.mark.parametrize("share", [0.1, 0.2, 0.25, 0.3, 0.4, 0.5])
def test_validation_of_single_windows_has_the_requested_share(share: float) -> None:
    y = np.repeat([0, 1, 2], [100, 60, 40])
    _, validation = part_by_share(y, np.arange(200), share, seed=17)
    assert len(validation) == round(share * 200)
    # Each class has about its share: 64 orders are tried.
    assert np.abs(np.bincount(y[validation]) - share * np.array([100, 60, 40])).max() <= 6


def test_an_impossible_validation_share_is_refused() -> None:
    y = np.array([0, 0, 1, 1])
    with pytest.raises(
        SplitError, match="cannot be split into training and 20% validation: training would lack"
    ):
        part_by_share(y, np.array([0, 0, 1, 1]), 0.2, 0)
