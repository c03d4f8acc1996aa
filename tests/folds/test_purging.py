"""Cases of purging that other splitters got wrong, by name, and windows of several symbols."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pytest
from split_windows import SPLITTERS, lists, panel
from tiny_store import MINUTE, START

from moola.errors import ConfigError, SplitError
from moola.splits import (
    CombinatorialPurgedKFold,
    PurgedKFold,
    WalkForward,
    assert_no_shared_bars,
    window_starts,
)

# ---- what others got wrong, by name ------------------------------------------------------------------------------


def test_a_train_label_that_ends_inside_the_test_set_is_purged():
    """Windows of one bar, labels of three: the labels of the two windows before the test block reach its
    first bars."""
    starts = np.arange(12)
    splitter = PurgedKFold(starts, starts, n_splits=3, label_ends=np.minimum(starts + 2, 11))
    assert lists(splitter.split())[1] == ([0, 1, 10, 11], [4, 5, 6, 7])
    walk = WalkForward(starts, starts, n_splits=2, label_ends=starts + 2)
    assert lists(walk.split())[0] == ([0, 1], [4, 5, 6, 7])


def test_a_train_label_that_covers_the_whole_test_set_is_purged():
    starts = np.arange(12)
    label_ends = starts.copy()
    label_ends[0] = 9
    train, _ = lists(PurgedKFold(starts, starts, n_splits=3, label_ends=label_ends).split())[1]
    assert train == [1, 2, 3, 8, 9, 10, 11]


def test_the_longest_test_label_counts_and_not_the_last_one():
    starts = np.arange(9)
    label_ends = starts.copy()
    label_ends[3] = 7
    train, test = lists(PurgedKFold(starts, starts, n_splits=3, label_ends=label_ends).split())[1]
    assert (train, test) == ([0, 1, 2, 8], [3, 4, 5])


def test_a_label_inside_its_window_does_not_shorten_it():
    starts = np.arange(0, 60, 5)
    ends = starts + 9
    splits = lists(PurgedKFold(starts, ends, n_splits=3, label_ends=starts + 2).split())
    assert splits == lists(PurgedKFold(starts, ends, n_splits=3).split())


def test_separate_test_blocks_are_purged_at_each_edge():
    """Purge and embargo apply at each edge of each block; windows between two blocks are kept."""
    starts = np.arange(30)
    ends = starts + 1
    splitter = CombinatorialPurgedKFold(starts, ends, n_folds=6, n_test_folds=2, embargo=1)
    splits = dict(zip(map(tuple, splitter.test_folds.tolist()), lists(splitter.split()), strict=True))
    train, test = splits[1, 3]
    assert test == [5, 6, 7, 8, 9, 15, 16, 17, 18, 19]
    # Block 1 covers bars 5 to 10, block 3 bars 15 to 20. One window before each ends in it; one after each begins
    # in it, and one more in the embargo.
    assert train == [0, 1, 2, 3, 12, 13, 22, 23, 24, 25, 26, 27, 28, 29]
    train, test = splits[2, 3]
    assert test == list(range(10, 20))
    assert train == [*range(9), *range(22, 30)]


def test_all_windows_between_two_test_blocks_may_be_purged():
    starts = np.arange(0, 60, 2)
    splitter = CombinatorialPurgedKFold(starts, starts + 7, n_folds=6, n_test_folds=2)
    by_test = dict(zip(map(tuple, splitter.test_folds.tolist()), lists(splitter.split()), strict=True))
    train, _ = by_test[1, 3]
    assert train == [0, 1, *range(23, 30)]


def test_an_embargo_follows_every_test_block():
    starts = np.arange(40)
    for kind in (PurgedKFold, CombinatorialPurgedKFold):
        for train, test in kind(starts, starts, 4, embargo=3).split():
            kept = set(train.tolist())
            for i in test.tolist():
                assert kept.isdisjoint(range(i, i + 4))
            # Before a block nothing is lost, because the embargo applies only after it.
            assert all(i - 1 in kept or i - 1 in test or {i - 2, i - 3, i - 4} & set(test) for i in test if i)
            assert kept | set(test) | {i + d for i in test.tolist() for d in (1, 2, 3)} >= set(range(40))


def test_an_embargo_counts_from_the_last_bar_of_the_labels():
    starts = np.arange(12)
    splitter = PurgedKFold(starts, starts, n_splits=3, label_ends=np.minimum(starts + 1, 11), embargo=2)
    assert lists(splitter.split())[0][0] == [7, 8, 9, 10, 11]


@pytest.mark.parametrize(
    ("splitter", "message"),
    [
        (
            PurgedKFold(np.arange(10), np.arange(10) + 20, n_splits=2),
            r"split 1 of 2 has nothing to train on: every window outside its test set \(bar 0 to bar 24\) is purged, "
            r"or lies in the embargo of 0 bars\. Give more windows, shorter",
        ),
        (
            PurgedKFold(np.arange(10), np.arange(10), n_splits=2, embargo=5),
            r"split 1 of 2 .* embargo of 5 bars",
        ),
        (
            CombinatorialPurgedKFold(np.arange(12), np.arange(12) + 2, n_folds=6, n_test_folds=3),
            r"split 9 of 20 has nothing to train on: .*\(bar 0 to bar 3 and bar 4 to bar 7 and bar 8 to bar 11\)|"
            r"split \d+ of 20 has nothing to train on: every window outside its test set \(bar \d+ to bar \d+ and",
        ),
        (
            WalkForward(np.arange(10), np.arange(10), n_splits=4, embargo=3),
            r"split 1 of 4 .*\(bar 2 to bar 3\)",
        ),
        (
            WalkForward(np.arange(0, 50, 5), np.arange(0, 50, 5) + 4, n_splits=2, train_size=4),
            r"split 1 of 2",
        ),
        (
            PurgedKFold(
                [0, 5, 10, 15],
                [4, 9, 14, 19],
                n_splits=2,
                times=START + np.tile(np.arange(10), 2) * MINUTE,
                symbols=["A", "A", "B", "B"],
                embargo=5,
            ),
            r"\(2023-11-14T22:14:00Z to 2023-11-14T22:18:00Z\)",
        ),
    ],
)
def test_an_empty_training_set_is_an_error_before_the_first_split(splitter, message):
    with pytest.raises(SplitError, match=message):
        splitter.split()


def test_windows_that_start_together_stay_together():
    starts = np.array([0, 0, 0, 0, 0, 10, 20, 20])
    splits = lists(PurgedKFold(starts, starts + 5, n_splits=3).split())
    assert [test for _, test in splits] == [[0, 1, 2, 3, 4], [5], [6, 7]]
    with pytest.raises(
        ConfigError, match="n_splits: 4 blocks need as many windows that start at different bars; "
    ):
        PurgedKFold(starts, starts + 5, n_splits=4)


def test_unsorted_windows_are_split():
    starts = np.array([30, 0, 50, 10, 40, 20])
    assert lists(PurgedKFold(starts, starts + 9, n_splits=3).split()) == [
        ([0, 2, 4, 5], [1, 3]),
        ([1, 2, 3, 4], [0, 5]),
        ([0, 1, 3, 5], [2, 4]),
    ]
    assert lists(WalkForward(starts, starts + 9, n_splits=2).split()) == [
        ([1, 3], [0, 5]),
        ([0, 1, 3, 5], [2, 4]),
    ]


# ---- several symbols ---------------------------------------------------------------------------------------------


def test_a_panel_is_purged_in_time_across_symbols():
    times, segments = panel(100, 3)
    starts = window_starts(segments, [[0, 300]], 10, 2)
    ends = starts + 9
    symbols = np.array(["S0", "S1", "S2"])[starts // 100]
    for kind in SPLITTERS:
        tested = set()
        for train, test in kind(starts, ends, times=times, symbols=symbols, embargo=3).split():
            assert set(symbols[train]) == set(symbols[test]) == {"S0", "S1", "S2"}
            assert_no_shared_bars(starts, ends, train, test, times=times)
            gaps = (starts[train] % 100)[:, None] - (ends[test] % 100)[None, :]
            assert not ((gaps > 0) & (gaps <= 3)).any()
            tested |= set(test.tolist())
        assert kind is WalkForward or tested == set(range(len(starts)))


def test_a_panel_grouped_by_symbol_is_purged():
    times, segments = panel(120, 3)
    starts = window_starts(segments, [[0, 360]], 10)
    symbols = np.array(["S0", "S1", "S2"])[starts // 120]
    splitter = PurgedKFold(starts, starts + 9, n_splits=4, times=times, symbols=symbols, groups=symbols)
    splits = list(splitter.split())
    assert len(splits) == splitter.get_n_splits() == 12
    for train, test in splits:
        assert len(set(symbols[test])) == 1
        assert set(symbols[train]) == {"S0", "S1", "S2"} - set(symbols[test])
        assert_no_shared_bars(starts, starts + 9, train, test, times=times)
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(len(starts)))


def test_groups_are_dealt_evenly():
    groups = np.repeat(list("abcdef"), [50, 10, 10, 10, 10, 10])
    starts = np.random.default_rng(1).permutation(100) * 10
    splitter = PurgedKFold(starts, starts + 4, groups=groups, n_group_folds=2)
    tested = [set(groups[test]) for _, test in splitter.split()]
    assert {frozenset(t) for t in tested} <= {frozenset("a"), *map(frozenset, _subsets("bcdef"))}
    assert np.bincount(splitter._held).tolist() == [50, 50]


def _subsets(names: str) -> Iterable[tuple[str, ...]]:
    return (s for k in range(1, len(names) + 1) for s in combinations(names, k))


def test_dates_are_times():
    times, _ = panel(60, 1)
    starts = np.arange(0, 50)
    expected = lists(PurgedKFold(starts, starts + 4, times=times).split())
    assert lists(PurgedKFold(starts, starts + 4, times=times.view("datetime64[ns]")).split()) == expected
    seconds = times.view("datetime64[ns]").astype("datetime64[s]")
    assert lists(PurgedKFold(starts, starts + 4, times=seconds).split()) == expected
    assert lists(PurgedKFold(starts, starts + 4).split()) == expected
