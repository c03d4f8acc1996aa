"""Splitters compared with their definitions, window by window."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from split_windows import SPLITTERS, Case, Lists, lists, overlap, windows

from moola.errors import ConfigError, SplitError
from moola.splits import (
    CombinatorialPurgedKFold,
    PurgedKFold,
    WalkForward,
)


def purged(case: Case, test: list[int], embargo: int) -> list[int]:
    """The definition: windows that do not overlap the test set, and do not begin in the embargo's bars after
    it."""
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
    """Blocks are consecutive in the order of starts, hold all windows, and keep windows with the same start
    together."""
    spans = case.spans()
    assert sorted(i for block in test_sets for i in block) == list(range(len(spans)))
    for earlier, later in pairwise(test_sets):
        assert max(spans[i][0] for i in earlier) < min(spans[i][0] for i in later)
    if len({first for first, _ in spans}) == len(spans):
        assert [len(block) for block in test_sets] == wanted


def made(make: Callable[[], Any], *, blocks: int, case: Case) -> Any:
    """The splitter; None if it correctly refuses because there are too few different starts."""
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
def test_purged_k_fold_equals_its_definition(case, n_splits, embargo):
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
def test_combinatorial_purged_k_fold_equals_its_definition(case, n_folds, data, embargo):
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
def test_walk_forward_equals_its_definition(case, n_splits, embargo, train_size):
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
def test_the_order_of_windows_does_not_matter(case, embargo, kind, data):
    """Not even for windows with the same start: no split depends on their order."""
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
    # A prediction that encodes its split and its window.
    told = [np.stack([np.full(len(test), s), test], axis=1) for s, (_, test) in enumerate(splits)]
    joined = splitter.join_paths(told)
    assert joined.shape == (splitter.n_paths, len(starts), 2)
    assert (joined[..., 0] == paths[:, splitter.folds]).all()
    assert (joined[..., 1] == np.arange(len(starts))).all()


def test_combinatorial_paths_match_the_book():
    """Figures 12.1 and 12.2 of Advances in Financial Machine Learning: 6 groups, 2 of them tested."""
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
