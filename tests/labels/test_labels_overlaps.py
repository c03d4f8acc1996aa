"""Windows that share bars: groups, reports and joined groups."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moola import FeatureStore
from moola.labels import overlaps, read_labels
from moola.labels.overlaps import group_bars, group_overlaps, hash_bars, join_groups
from moola.splits import PurgedKFold, assert_no_shared_bars


def brute_groups(shares: Callable[[int, int], bool], n: int) -> list[set[int]]:
    groups = [{i} for i in range(n)]
    for i, j in combinations(range(n), 2):
        if shares(i, j):
            one, other = (next(group for group in groups if k in group) for k in (i, j))
            if one is not other:
                one |= other
                groups.remove(other)
    return groups


def as_sets(groups: np.ndarray) -> list[set[int]]:
    return [set(np.flatnonzero(groups == group).tolist()) for group in np.unique(groups)]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), min_size=1, max_size=20))
def test_groups_of_overlaps_against_brute_force(windows: list[tuple[int, int]]) -> None:
    starts = np.array([start for start, _ in windows])
    ends = starts + [length for _, length in windows]
    groups = group_overlaps(starts, ends)
    want = brute_groups(lambda i, j: starts[i] <= ends[j] and starts[j] <= ends[i], len(windows))
    assert sorted(map(sorted, as_sets(groups))) == sorted(map(sorted, want))
    assert set(groups.tolist()) == set(range(len(want)))


@given(st.data(), st.integers(1, 12), st.integers(1, 3))
def test_joined_groups_against_brute_force(data: st.DataObject, n: int, groupings: int) -> None:
    several = [
        np.array(data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))) for _ in range(groupings)
    ]
    groups = join_groups(several)
    want = brute_groups(lambda i, j: any(one[i] == one[j] for one in several), n)
    assert sorted(map(sorted, as_sets(groups))) == sorted(map(sorted, want))
    firsts = [min(group) for group in as_sets(groups)]
    assert firsts == sorted(firsts)


@given(st.lists(st.integers(0, 150), min_size=1, max_size=25), st.integers(4, 12), st.integers(0, 3))
def test_groups_of_bars_against_brute_force(starts: list[int], length: int, seed: int) -> None:
    """Windows cut from a series that sometimes stands still: those that share three informative bars."""
    rng = np.random.default_rng(seed)
    series = rng.integers(0, 3, (170, 4)).cumsum(axis=0).astype(np.float64)
    series[60:75] = series[60]

    def shares(i: int, j: int) -> bool:
        a, b = sorted((starts[i], starts[j]))
        shared = series[b : a + length]
        return any(len(np.unique(shared[k : k + 3], axis=0)) > 1 for k in range(len(shared) - 2))

    windows = np.stack([series[start : start + length] for start in starts])
    with pytest.MonkeyPatch.context() as patched:
        # Few enough at a time that there are several stretches.
        patched.setattr(overlaps, "_AT_A_TIME", 4)
        groups = group_bars(hash_bars(windows))
    assert sorted(map(sorted, as_sets(groups))) == sorted(map(sorted, brute_groups(shares, len(starts))))
    firsts = [min(group) for group in as_sets(groups)]
    assert firsts == sorted(firsts)


def test_overlaps_are_reported_and_kept_together(store: FeatureStore) -> None:
    ends = [100, 105, 113, 200, 250, 259, 400]
    got = read_labels(pa.table({"window_end": ends, "class": list("abababa")}), store)
    assert got.groups.tolist() == [0, 0, 0, 1, 2, 2, 3]
    assert "overlap: 5 windows share bars with others, in 2 groups; keep each on one side of" in "\n".join(
        got.report()
    )
    splitter = PurgedKFold(got.starts, got.ends, n_splits=2, label_ends=got.label_ends, groups=got.groups)
    tested = 0
    for train, test in splitter.split(got.X):
        assert_no_shared_bars(got.starts, got.ends, train, test, label_ends=got.label_ends)
        assert not set(got.groups[train]) & set(got.groups[test])
        tested += len(test)
    assert tested == len(got)
