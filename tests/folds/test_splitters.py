"""Splitters against their definitions, window by window, and against leaks that others' splitters have had."""

from __future__ import annotations

import copy
import math
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
import sklearn
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    TimeSeriesSplit,
    cross_val_predict,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsClassifier
from tiny_store import MINUTE, START

import moola.splits
from moola.errors import ConfigError, MoolaError, SharedBarsError, SplitError
from moola.splits import (
    CombinatorialPurgedKFold,
    PurgedKFold,
    Segment,
    WalkForward,
    assert_no_shared_bars,
    window_starts,
)

SPLITTERS = (WalkForward, PurgedKFold, CombinatorialPurgedKFold)
Lists = list[tuple[list[int], list[int]]]


def lists(splits: Iterable[tuple[np.ndarray, np.ndarray]]) -> Lists:
    return [(train.tolist(), test.tolist()) for train, test in splits]


# ---- windows, and what the splitters should do with them ---------------------------------------------------------


class Case(NamedTuple):
    """Windows, unsorted, that may overlap, share a start, or be the same; of one symbol or of several."""

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
        """The last bar of each window or, where it is later, its label."""
        label_ends = self.ends if self.label_ends is None else self.label_ends
        return [max(pair) for pair in zip(self.ends.tolist(), label_ends.tolist(), strict=True)]

    def time(self, row: int) -> int:
        return int(row if self.times is None else self.times[row])

    def spans(self) -> list[tuple[int, int]]:
        """When each window begins and ends, its label included."""
        return [
            (self.time(first), self.time(last))
            for first, last in zip(self.starts.tolist(), self.last, strict=True)
        ]

    def bars(self, window: int) -> list[int]:
        """When the bars of the window's symbol are: all that are known."""
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


def purged(case: Case, test: list[int], embargo: int) -> list[int]:
    """The definition: no window that overlaps one of the test set, or begins among the embargo's bars after it."""
    spans = case.spans()
    train = []
    for i, span in enumerate(spans):
        bars = [t for t in case.bars(i) if t <= span[0]]

        def embargoed(end: int, begin: int = span[0], bars: list[int] = bars) -> bool:
            return end < begin and sum(end < t for t in bars) <= embargo

        if not any(overlap(span, spans[j]) or embargoed(spans[j][1]) for j in test):
            train.append(i)
    return train


def blocks_of(case: Case, test_sets: list[list[int]], wanted: list[int]) -> None:
    """Blocks are consecutive in the order of starts, hold all windows, and do not part windows that start together."""
    spans = case.spans()
    assert sorted(i for block in test_sets for i in block) == list(range(len(spans)))
    for earlier, later in pairwise(test_sets):
        assert max(spans[i][0] for i in earlier) < min(spans[i][0] for i in later)
    if len({first for first, _ in spans}) == len(spans):
        assert [len(block) for block in test_sets] == wanted


def made(make: Callable[[], Any], *, blocks: int, case: Case) -> Any:
    """The splitter; None where there are too few different starts, once it has said so."""
    if len({first for first, _ in case.spans()}) >= blocks:
        return make()
    with pytest.raises(
        ConfigError, match=f"{blocks} blocks need as many windows that start at different bars"
    ):
        make()
    return None


# The same examples go through the splitter and through the definition. When the definition leaves a split nothing to
# train on, the splitter must say so instead.
def same(splitter: Any, expected: Lists) -> None:
    if all(train for train, _ in expected):
        assert lists(splitter.split()) == expected
    else:
        empty = next(i for i, (train, _) in enumerate(expected) if not train)
        with pytest.raises(
            SplitError, match=rf"split {empty + 1} of {len(expected)} has nothing to train on"
        ):
            splitter.split()


@settings(deadline=None)
@given(windows(), st.integers(2, 5), st.integers(0, 12))
def test_purged_k_fold_is_its_definition(case, n_splits, embargo):
    splitter = made(
        lambda: PurgedKFold(**case.arguments, n_splits=n_splits, embargo=embargo), blocks=n_splits, case=case
    )
    if splitter is None:
        return
    blocks = [np.flatnonzero(splitter._tested.number == b).tolist() for b in range(n_splits)]
    blocks_of(case, blocks, [len(block) for block in np.array_split(np.arange(len(case.starts)), n_splits)])
    assert splitter.get_n_splits() == n_splits
    same(splitter, [(purged(case, block, embargo), block) for block in blocks])


@settings(deadline=None)
@given(windows(), st.integers(2, 6), st.data(), st.integers(0, 12))
def test_combinatorial_purged_k_fold_is_its_definition(case, n_folds, data, embargo):
    n_test_folds = data.draw(st.integers(1, n_folds - 1))
    splitter = made(
        lambda: CombinatorialPurgedKFold(
            **case.arguments, n_folds=n_folds, n_test_folds=n_test_folds, embargo=embargo
        ),
        blocks=n_folds,
        case=case,
    )
    if splitter is None:
        return
    blocks = [np.flatnonzero(splitter.folds == b).tolist() for b in range(n_folds)]
    blocks_of(case, blocks, [len(block) for block in np.array_split(np.arange(len(case.starts)), n_folds)])
    tests = [
        sorted(i for b in chosen for i in blocks[b]) for chosen in combinations(range(n_folds), n_test_folds)
    ]
    assert splitter.get_n_splits() == len(tests)
    same(splitter, [(purged(case, test, embargo), test) for test in tests])


@settings(deadline=None)
@given(windows(), st.integers(1, 4), st.integers(0, 12), st.none() | st.integers(1, 40))
def test_walk_forward_is_its_definition(case, n_splits, embargo, train_size):
    splitter = made(
        lambda: WalkForward(**case.arguments, n_splits=n_splits, embargo=embargo, train_size=train_size),
        blocks=n_splits + 1,
        case=case,
    )
    if splitter is None:
        return
    blocks = [np.flatnonzero(splitter._tested.number == b).tolist() for b in range(n_splits + 1)]
    size = len(case.starts) // (n_splits + 1)
    blocks_of(case, blocks, [len(case.starts) - n_splits * size] + [size] * n_splits)
    assert splitter.get_n_splits() == n_splits
    spans = case.spans()
    expected = []
    for test in blocks[1:]:
        begin = min(spans[i][0] for i in test)
        train = []
        for i, (first, last) in enumerate(spans):
            bars = case.bars(i)
            gap = sum(last < t < begin for t in bars)
            reach = sum(first <= t < begin for t in bars)
            rolled = train_size is None or reach <= embargo + train_size
            if last < begin and gap >= embargo and rolled:
                train.append(i)
        expected.append((train, test))
    same(splitter, expected)


@settings(deadline=None)
@given(windows(), st.integers(2, 4), st.integers(0, 6), st.data())
def test_groups_are_held_out_together_with_their_time(case, n_splits, embargo, data):
    groups = np.array(
        data.draw(st.lists(st.sampled_from("abcd"), min_size=len(case.starts), max_size=len(case.starts)))
    )
    assume(len(set(groups)) >= 2)
    splitter = made(
        lambda: PurgedKFold(**case.arguments, n_splits=n_splits, embargo=embargo, groups=groups),
        blocks=n_splits,
        case=case,
    )
    if splitter is None:
        return
    blocks = [np.flatnonzero(splitter._tested.number == b).tolist() for b in range(n_splits)]
    folds = splitter._held
    assert len(set(folds.tolist())) == min(n_splits, len(set(groups)))
    assert len({(g, f) for g, f in zip(groups.tolist(), folds.tolist(), strict=True)}) == len(set(groups))
    expected = []
    for block in blocks:
        for fold in range(max(folds) + 1):
            test = [i for i in block if folds[i] == fold]
            if test:
                expected.append(([i for i in purged(case, block, embargo) if folds[i] != fold], test))
    assert splitter.get_n_splits() == len(expected)
    assert sorted(i for _, test in expected for i in test) == list(range(len(groups)))
    same(splitter, expected)
    by_call = PurgedKFold(**case.arguments, n_splits=n_splits, embargo=embargo)
    assert by_call.get_n_splits(groups=groups) == len(expected)
    if all(train for train, _ in expected):
        assert lists(by_call.split(groups=groups)) == expected


@settings(deadline=None)
@given(windows(), st.integers(0, 12), st.sampled_from(SPLITTERS), st.data())
def test_order_of_windows_makes_no_difference(case, embargo, kind, data):
    """Not even where windows start together: no split depends on which of them came first."""
    order = np.array(data.draw(st.permutations(range(len(case.starts)))))
    moved = Case(*(a if a is None or name == "times" else a[order] for name, a in case.arguments.items()))
    splitter = made(
        lambda: kind(**case.arguments, embargo=embargo), blocks=6 - (kind is PurgedKFold), case=case
    )
    if splitter is None:
        return
    again = kind(**moved.arguments, embargo=embargo)
    try:
        splits = [[set(side.tolist()) for side in split] for split in splitter.split()]
    except SplitError as error:
        with pytest.raises(SplitError, match=re.escape(str(error))):
            again.split()
        return
    assert [[set(order[side].tolist()) for side in split] for split in again.split()] == splits


# ---- the check itself --------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(windows(), st.data())
def test_the_check_raises_when_bars_are_shared_and_only_then(case, data):
    n = len(case.starts)
    sides = data.draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n))
    train = [i for i in data.draw(st.permutations(range(n))) if sides[i] == "a"]
    test = [i for i in range(n) if sides[i] == "b"]
    spans = case.spans()
    pairs = {(i, j) for i in train for j in test if overlap(spans[i], spans[j])}
    known = {"label_ends": case.label_ends, "times": case.times}
    if not pairs:
        assert_no_shared_bars(case.starts, case.ends, train, test, **known)
        mask = np.isin(np.arange(n), train), np.isin(np.arange(n), test)
        assert_no_shared_bars(case.starts, case.ends, *mask, **known)
        return
    with pytest.raises(SharedBarsError) as caught:
        assert_no_shared_bars(case.starts, case.ends, train, test, **known)
    error = caught.value
    i, j = error.train, error.test
    assert (i, j) in pairs
    assert error.count == len({i for i, _ in pairs})
    assert error.shared == (max(spans[i][0], spans[j][0]), min(spans[i][1], spans[j][1]))
    assert error.train_bars == (case.starts[i], case.last[i])
    assert error.test_bars == (case.starts[j], case.last[j])


def test_the_check_names_the_pair():
    with pytest.raises(SharedBarsError) as caught:
        assert_no_shared_bars([0, 5, 10, 12], [9, 14, 19, 19], train=[0, 1, 3], test=[2])
    assert str(caught.value) == (
        "window 1 of train (bars 5 to 14) and window 2 of test (bars 10 to 19) share bars 10 to 14; 2 training "
        "windows share bars with the test set in all. Purge them, for example with a splitter of moola.splits"
    )
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, MoolaError)
    with pytest.raises(SharedBarsError, match=r"share bar 9; 1 training window shares"):
        assert_no_shared_bars([0, 9], [9, 12], [0], [1])


def test_the_check_sees_one_window_on_both_sides():
    with pytest.raises(SharedBarsError, match=r"window 4 of train .* and window 4 of test"):
        assert_no_shared_bars(np.arange(9), np.arange(9), [0, 1, 4], [4, 5])


def test_bars_of_two_symbols_at_one_time_are_shared_in_time_alone():
    times = START + np.tile(np.arange(5), 2) * MINUTE
    assert_no_shared_bars([0, 5], [4, 9], [0], [1])
    with pytest.raises(SharedBarsError, match="share 2023-11-14T22:14:00Z to 2023-11-14T22:18:00Z"):
        assert_no_shared_bars([0, 5], [4, 9], [0], [1], times=times)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([-1], r"train: has -1, but windows count from 0 to 2; give indices"),
        ([3], r"train: has 3, but windows count from 0 to 2; give indices"),
        ([0.5], r"train: is of type float64; give indices of windows, or a mask \[n\]"),
        ([[0]], r"train: has 2 dimensions; give indices"),
        ([True, False], r"train: has 2 values for 3 windows; give one for each"),
    ],
)
def test_the_check_refuses_what_are_no_windows(train, message):
    with pytest.raises(ConfigError, match=message):
        assert_no_shared_bars([0, 5, 10], [4, 9, 14], train, [0])


def test_nothing_shares_nothing():
    assert_no_shared_bars([0, 0], [9, 9], [], [0, 1])
    assert_no_shared_bars([0, 0], [9, 9], [0], np.zeros(2, bool))


# ---- planted leaks -----------------------------------------------------------------------------------------------


class Unpurged(PurgedKFold):
    """What a purged K-fold is without the purge."""

    def _train(self, block: int, fold: int, folds: np.ndarray) -> np.ndarray:
        return self._tested.number != block


STARTS = np.arange(0, 1000, 5)
ENDS = STARTS + 19


@pytest.mark.parametrize(
    "splitter",
    [
        Unpurged(STARTS, ENDS),
        Unpurged(STARTS, ENDS, embargo=50),
        KFold(5),
        KFold(5, shuffle=True, random_state=0),
        TimeSeriesSplit(5),
    ],
    ids=lambda s: str(s)[:24],
)
def test_a_splitter_without_purge_is_caught(splitter):
    for train, test in splitter.split(STARTS):
        with pytest.raises(SharedBarsError, match="Purge them"):
            assert_no_shared_bars(STARTS, ENDS, train, test)


@pytest.mark.parametrize("kind", SPLITTERS)
def test_a_label_that_reaches_into_the_test_set_is_caught(kind):
    """The windows are purged, but whoever made the splitter said nothing of labels that look 30 bars ahead."""
    labels = ENDS + 30
    for train, test in kind(STARTS, ENDS).split():
        assert_no_shared_bars(STARTS, ENDS, train, test)
        with pytest.raises(SharedBarsError):
            assert_no_shared_bars(STARTS, ENDS, train, test, label_ends=labels)
        with pytest.raises(SharedBarsError):
            assert_no_shared_bars(STARTS, labels, train, test)
    for train, test in kind(STARTS, ENDS, label_ends=labels).split():
        assert_no_shared_bars(STARTS, ENDS, train, test, label_ends=labels)


def test_a_leak_flatters_and_a_purge_does_not():
    """Labels that nothing can foretell, from overlapping windows: a neighbour's answer is a window's own."""
    rng = np.random.default_rng(0)
    steps = rng.standard_normal(4000)
    starts = np.arange(0, 3800)
    windows = np.lib.stride_tricks.sliding_window_view(steps.cumsum(), 20)[starts]
    future = np.array([steps[s + 20 : s + 60].sum() > 0 for s in starts])
    model = KNeighborsClassifier(1)
    leaky = cross_val_score(model, windows, future, cv=KFold(5, shuffle=True, random_state=0)).mean()
    honest = cross_val_score(
        model, windows, future, cv=PurgedKFold(starts, starts + 19, label_ends=starts + 59)
    ).mean()
    assert leaky > 0.8
    assert abs(honest - 0.5) < 0.05


# ---- what others got wrong, by name ------------------------------------------------------------------------------


def test_a_train_label_that_ends_inside_the_test_set():
    """Windows of one bar, labels of three: the two windows before the test block know its first bars."""
    starts = np.arange(12)
    splitter = PurgedKFold(starts, starts, n_splits=3, label_ends=np.minimum(starts + 2, 11))
    assert lists(splitter.split())[1] == ([0, 1, 10, 11], [4, 5, 6, 7])
    walk = WalkForward(starts, starts, n_splits=2, label_ends=starts + 2)
    assert lists(walk.split())[0] == ([0, 1], [4, 5, 6, 7])


def test_a_train_label_that_covers_the_whole_test_set():
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


def test_test_blocks_that_are_not_contiguous():
    """Purge and embargo at each edge of each block; what lies between two blocks is kept."""
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


def test_everything_between_two_test_blocks_may_be_purged():
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
            # Before a block nothing is lost, for the past does not learn from the future.
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
            r"or falls to the embargo of 0 bars\. Give more windows, shorter",
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
def test_everything_purged_is_said_before_the_first_split(splitter, message):
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


def test_unsorted_windows():
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


def panel(bars: int, symbols: int) -> tuple[np.ndarray, list[Segment]]:
    times = START + np.arange(bars, dtype=np.int64) * MINUTE
    segments = [
        Segment(f"S{k}", k * bars, (k + 1) * bars - 1, int(times[0]), int(times[-1]), MINUTE, k * bars)
        for k in range(symbols)
    ]
    return np.tile(times, symbols), segments


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


def test_a_panel_grouped_by_symbol():
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


# ---- paths -------------------------------------------------------------------------------------------------------


@given(st.integers(2, 9), st.data())
def test_paths_take_each_block_once_and_each_test_once(n_folds, data):
    n_test_folds = data.draw(st.integers(1, n_folds - 1))
    starts = np.array(data.draw(st.permutations(range(3 * n_folds + 1)))) * 10
    splitter = CombinatorialPurgedKFold(starts, starts + 3, n_folds, n_test_folds)
    splits = list(splitter.split())
    assert len(splits) == splitter.get_n_splits() == math.comb(n_folds, n_test_folds)
    assert splitter.n_paths == len(splits) * n_test_folds // n_folds
    paths, tests = splitter.paths, splitter.test_folds
    assert paths.shape == (splitter.n_paths, n_folds)
    for fold in range(n_folds):
        assert sorted(paths[:, fold]) == [s for s, blocks in enumerate(tests) if fold in blocks]
    # A prediction that says which split it comes from, and for which window.
    told = [np.stack([np.full(len(test), s), test], axis=1) for s, (_, test) in enumerate(splits)]
    joined = splitter.join_paths(told)
    assert joined.shape == (splitter.n_paths, len(starts), 2)
    assert (joined[..., 0] == paths[:, splitter.folds]).all()
    assert (joined[..., 1] == np.arange(len(starts))).all()


def test_paths_of_the_book():
    """Figure 12.1 and 12.2 of Advances in Financial Machine Learning: 6 groups, 2 of them tested."""
    splitter = CombinatorialPurgedKFold(np.arange(60), np.arange(60), 6, 2)
    assert splitter.get_n_splits() == 15
    assert splitter.n_paths == 5
    # Path 1 has (G1, S1), (G2, S1), (G3, S2), (G4, S3), (G5, S4) and (G6, S5), counted from 1.
    assert (splitter.paths[0] + 1).tolist() == [1, 1, 2, 3, 4, 5]
    assert (splitter.paths[1] + 1).tolist() == [2, 6, 6, 7, 8, 9]


def test_predictions_that_do_not_fit_are_refused():
    splitter = CombinatorialPurgedKFold(np.arange(12), np.arange(12), 4, 2)
    told = [test for _, test in splitter.split()]
    with pytest.raises(
        ConfigError, match="predictions: are of 5 splits; give those of all 6, in their order"
    ):
        splitter.join_paths(told[:5])
    with pytest.raises(
        ConfigError, match=r"predictions: of split 2 are of shape \(5,\); give \(6,\), a row for each"
    ):
        splitter.join_paths([*told[:2], told[2][:5], *told[3:]])
    with pytest.raises(ConfigError, match=r"predictions: of split 1 are of shape \(6, 2\); give \(6,\)"):
        splitter.join_paths([told[0], np.zeros((6, 2)), *told[2:]])
    floats = splitter.join_paths([*told[:5], told[5] / 2])
    assert floats.dtype == float


# ---- with scikit-learn -------------------------------------------------------------------------------------------


@given(st.integers(6, 60), st.integers(2, 6))
def test_windows_of_one_bar_are_split_as_scikit_learn_does(n, n_splits):
    bars = np.arange(n)
    assert lists(PurgedKFold(bars, bars, n_splits).split()) == lists(KFold(n_splits).split(bars))
    folds = list(KFold(n_splits).split(bars))
    ones = CombinatorialPurgedKFold(bars, bars, n_splits, 1)
    assert lists(ones.split()) == lists(folds)


@given(st.integers(10, 60), st.integers(2, 4), st.integers(0, 5), st.none() | st.integers(1, 30))
def test_a_walk_over_windows_of_one_bar_is_scikit_learns(n, n_splits, gap, size):
    bars = np.arange(n)
    assume(n - n // (n_splits + 1) * n_splits > gap)
    theirs = TimeSeriesSplit(n_splits, gap=gap, max_train_size=size).split(bars)
    assert lists(WalkForward(bars, bars, n_splits, embargo=gap, train_size=size).split()) == lists(theirs)


@pytest.mark.parametrize("kind", SPLITTERS)
def test_scikit_learn_takes_them(kind):
    splitter = kind(STARTS, ENDS, embargo=5)
    x = np.random.default_rng(0).standard_normal((len(STARTS), 3))
    y = np.arange(len(STARTS)) % 2
    model = DummyClassifier(strategy="prior")
    scores = cross_val_score(model, x, y, cv=splitter)
    assert len(scores) == splitter.get_n_splits(x, y)
    search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 3]}, cv=splitter)
    assert clone(search).fit(x, y).n_splits_ == splitter.get_n_splits()
    with sklearn.config_context(enable_metadata_routing=True):
        assert cross_val_score(model, x, y, cv=splitter).tolist() == scores.tolist()
    if kind is PurgedKFold:
        assert len(cross_val_predict(model, x, y, cv=splitter)) == len(STARTS)
        groups = np.arange(len(STARTS)) % 3
        grouped = cross_val_score(model, x, y, groups=groups, cv=splitter)
        assert len(grouped) == splitter.get_n_splits(groups=groups) == 15
    else:
        with pytest.raises(
            ConfigError, match=f"groups: {kind.__name__} makes no use of them; leave them out"
        ):
            splitter.split(groups=y)
        with pytest.raises(ValueError, match="partition"):
            cross_val_predict(model, x, y, cv=splitter)


@pytest.mark.parametrize("kind", SPLITTERS)
def test_samples_of_another_length_are_refused(kind):
    splitter = kind(STARTS, ENDS)
    for x in (np.zeros((199, 2)), [0] * 199):
        with pytest.raises(
            ConfigError, match="X: has 199 samples, but this splitter knows 200 windows; make another"
        ):
            splitter.split(x)
    assert lists(splitter.split([0] * 200)) == lists(splitter.split())


@pytest.mark.parametrize("kind", SPLITTERS)
def test_they_can_be_copied_and_sent(kind):
    times, _ = panel(1100, 1)
    splitter = kind(STARTS, ENDS, embargo=7, times=times)
    for other in (copy.deepcopy(splitter), pickle.loads(pickle.dumps(splitter))):
        assert lists(other.split()) == lists(splitter.split())
    assert repr(splitter).startswith(f"<{kind.__name__} of 200 windows, embargo=7, n_")


def test_they_do_not_keep_the_callers_arrays():
    starts, ends = STARTS.copy(), ENDS.copy()
    splitter = PurgedKFold(starts, ends)
    before = lists(splitter.split())
    starts += 100
    ends[:] = 5000
    assert lists(splitter.split()) == before


# ---- nonsense ----------------------------------------------------------------------------------------------------

TIMES = START + np.arange(20, dtype=np.int64) * MINUTE


@pytest.mark.parametrize("kind", SPLITTERS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"starts": []}, r"starts: is empty; give at least one window"),
        ({"starts": [[0, 1]]}, r"starts: has 2 dimensions; give one value a window"),
        ({"starts": [0.0, 5.0, 10.0]}, r"starts: is of type float64; give bar numbers, as integers"),
        (
            {"starts": TIMES[:3]},
            r"starts: has numbers beyond 2\*\*60; give bar numbers \(times go into `times`\)",
        ),
        ({"starts": np.array([2**63 + 1, 0, 0], np.uint64)}, r"starts: has numbers beyond"),
        (
            {"starts": TIMES[:3].view("datetime64[ns]")},
            r"starts: is of type datetime64\[ns\]; give bar numbers",
        ),
        ({"ends": [4, 9]}, r"ends: has 2 values for 3 windows; give one for each, in the order of starts"),
        (
            {"ends": [4, 4, 14]},
            r"ends: is 4 for window 1, which starts at bar 5; give each window's last bar",
        ),
        ({"label_ends": [4, 9, 9]}, r"label_ends: is 9 for window 2, which starts at bar 10"),
        ({"label_ends": [4, 9]}, r"label_ends: has 2 values for 3 windows"),
        ({"embargo": -1}, r"embargo: -1 is not a number of bars; give 0 or more"),
        ({"embargo": True}, r"embargo: True is not a number of bars"),
        ({"embargo": 0.01}, r"embargo: 0\.01 is not a number of bars"),
        ({"embargo": 2**63}, r"embargo: 9223372036854775808 is out of range"),
        (
            {"symbols": ["A", "A", "B"]},
            r"times: is missing; give the time of each bar with symbols, such as store",
        ),
        (
            {"times": TIMES[:14]},
            r"times: has 14 bars, but a window reaches bar 14; give the time of every bar",
        ),
        ({"times": TIMES[None]}, r"times: has 2 dimensions; give the time of each bar"),
        ({"times": [0.5] * 20}, r"times: is of type float64; give UTC nanoseconds such as store\.timestamps"),
        (
            {"times": np.array(["NaT"] * 20, "datetime64[ns]")},
            r"times: has a missing time at 0; give every time",
        ),
        (
            {"times": TIMES[::-1]},
            r"times: do not ascend from bar 0 to the next; sort the bars, or say with symbols",
        ),
        (
            {"times": TIMES[::-1], "symbols": ["A", "A", "B"]},
            r"times: do not ascend from bar 0 to the next, both of A; sort its bars, or call each of several",
        ),
        (
            {"times": TIMES, "symbols": ["A", "B", "A"]},
            r"symbols: windows of B start at bar 5, among those of A \(bars 0 to 14\); put the bars of each symbol",
        ),
        (
            {"times": TIMES, "symbols": ["A", "A", "B"], "ends": [4, 10, 14]},
            r"symbols: windows of B start at bar 10, among those of A \(bars 0 to 10\); put the bars of each symbol",
        ),
        ({"times": TIMES, "symbols": ["A", "B"]}, r"symbols: has 2 values for 3 windows"),
        (
            {"times": TIMES, "symbols": np.array(["A", 1, None], object)},
            r"symbols: cannot be compared with each other; give one string a window",
        ),
    ],
)
def test_windows_that_make_no_sense(kind, arguments, message):
    with pytest.raises(ConfigError, match=message):
        kind(**({"starts": [0, 5, 10], "ends": [4, 9, 14]} | arguments))


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (WalkForward, {"n_splits": 0}, r"n_splits: 0 is not a number of splits; give 1 or more"),
        (WalkForward, {"train_size": 0}, r"train_size: 0 is not a number of bars; give 1 or more"),
        (PurgedKFold, {"n_splits": 1}, r"n_splits: 1 is not a number of folds; give 2 or more"),
        (
            PurgedKFold,
            {"n_splits": 201},
            r"n_splits: 201 blocks need .* there are 200\. Give more windows, or fewer",
        ),
        (PurgedKFold, {"n_group_folds": 1}, r"n_group_folds: 1 is not a number of folds; give 2 or more"),
        (
            PurgedKFold,
            {"groups": ["A"] * 200},
            r"groups: has 1, too few for 2 folds of them; give more groups",
        ),
        (PurgedKFold, {"groups": ["A"]}, r"groups: has 1 values for 200 windows; give one for each"),
        (
            PurgedKFold,
            {"groups": [None, *"A" * 199]},
            r"groups: cannot be compared with each other; give one name",
        ),
        (CombinatorialPurgedKFold, {"n_folds": 1}, r"n_folds: 1 is not a number of folds; give 2 or more"),
        (
            CombinatorialPurgedKFold,
            {"n_folds": 63},
            r"n_folds: 63 folds have too many combinations; give 62 or",
        ),
        (
            CombinatorialPurgedKFold,
            {"n_test_folds": 0},
            r"n_test_folds: 0 is not a number of folds; give 1 or more",
        ),
        (
            CombinatorialPurgedKFold,
            {"n_test_folds": 6},
            r"n_test_folds: 6 of 6 folds leave none .* give 5 or fewer",
        ),
    ],
)
def test_settings_that_make_no_sense(kind, arguments, message):
    with pytest.raises(ConfigError, match=message):
        kind(STARTS, ENDS, **arguments)


def test_symbols_one_after_the_other_need_no_order_among_them():
    times = np.concatenate([TIMES, TIMES - 3 * MINUTE])
    starts = np.array([0, 5, 10, 15, 20, 25, 30, 35])
    symbols = ["Z"] * 4 + ["A"] * 4
    splits = lists(PurgedKFold(starts, starts + 4, n_splits=2, times=times, symbols=symbols).split())
    # A's bars are 3 minutes earlier than Z's. In the order of time: A0 Z0 A1 Z1 | A2 Z2 A3 Z3; Z1 reaches over A2.
    assert splits == [([2, 3, 7], [0, 1, 4, 5]), ([0, 4, 5], [2, 3, 6, 7])]


def test_splits_offers_them_without_scikit_learn():
    values = {name: getattr(moola.splits, name) for name in moola.splits.__all__}
    homes = {
        name for name, value in values.items() if getattr(value, "__module__", "").startswith("moola.folds")
    }
    assert homes == {"CombinatorialPurgedKFold", "PurgedKFold", "WalkForward", "assert_no_shared_bars"}
    with pytest.raises(AttributeError, match=r"module 'moola\.splits' has no attribute 'PurgedKfold'"):
        _ = moola.splits.PurgedKfold
    code = (
        "import sys, moola; a = 'moola.folds.base' in sys.modules; from moola.splits import PurgedKFold; "
        "print(a, 'moola.folds.base' in sys.modules, 'sklearn' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["False", "True", "False"]
