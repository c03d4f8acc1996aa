"""Folds and validation shares that adapt to the rarest class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled import make_windows

from moola.errors import LabelError, SplitError
from moola.folds.dealing import purged_folds
from moola.folds.few_labels import FOLDS, VALIDATION_SHARE, fitting_folds, fitting_share
from moola.folds.validation_share import part_by_share
from moola.labels import LabelledWindows


def windows_of(counts: list[int], seed: int = 0, groups: np.ndarray | None = None) -> LabelledWindows:
    n = sum(counts)
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    classes = tuple(f"class {code}" for code in range(len(counts)))
    fields = {} if groups is None else {"groups": groups}
    return make_windows(n, bars=12, of_store=False, y=y, classes=classes, spans=np.full((n, 2), -1), **fields)


@given(st.lists(st.integers(2, 20), min_size=2, max_size=4), st.integers(0, 99), st.integers(1, 3))
def test_there_are_as_many_folds_as_the_rarest_class_has_windows(
    counts: list[int], seed: int, repeats: int
) -> None:
    windows = windows_of(counts, seed)
    folds, said = fitting_folds(windows, seed=seed, repeats=repeats)
    rarest = min(counts)
    assert folds == min(FOLDS, rarest)
    if folds == FOLDS:
        assert said == []
    else:
        name = f"class {counts.index(rarest)}"
        assert said == [f"{folds} folds instead of 5: the rarest class, {name!r}, has {rarest} windows"]
    for repeat in range(repeats):
        assert len(purged_folds(windows, folds, seed=seed, repeat=repeat)) == folds


@given(st.lists(st.integers(2, 20), min_size=2, max_size=4), st.integers(0, 99))
def test_a_share_is_found_that_leaves_every_fold_every_class(counts: list[int], seed: int) -> None:
    windows = windows_of(counts, seed)
    folds, _ = fitting_folds(windows, seed=seed)
    parts = purged_folds(windows, folds, seed=seed)
    share, said = fitting_share(windows, windows.groups, parts, seed=seed)
    assert (share == VALIDATION_SHARE) == (said == [])
    assert "class" in "".join(said) or not said
    for train, _ in parts if share else []:
        kept, held = part_by_share(windows.y[train], windows.groups[train], share, seed)
        assert len(held)
        assert set(windows.y[train][kept]) == set(range(len(counts)))


def test_groups_count_where_windows_overlap() -> None:
    # Eight windows of the rare class in three groups.
    y_groups = np.concatenate([np.arange(30), 30 + np.repeat([0, 1, 2], [3, 3, 2])])
    windows = make_windows(
        38,
        bars=12,
        of_store=False,
        y=np.repeat([0, 1], [30, 8]),
        groups=y_groups,
        spans=np.full((38, 2), -1),
    )
    folds, said = fitting_folds(windows, seed=3)
    assert 2 <= folds <= 5
    if folds < 5:
        assert said == [
            f"{folds} folds instead of 5: the rarest class, 'up', has 8 windows in 3 groups that share no bar"
        ]


def test_what_no_number_of_folds_can_split_is_refused_by_class() -> None:
    with pytest.raises(LabelError, match=r"'class 1': 1 window for 5 folds"):
        fitting_folds(windows_of([20, 1]), seed=0)
    one_group = np.concatenate([np.arange(20), np.full(6, 20)])
    windows = make_windows(
        26,
        bars=12,
        of_store=False,
        y=np.repeat([0, 1], [20, 6]),
        groups=one_group,
        spans=np.full((26, 2), -1),
    )
    with pytest.raises(SplitError, match="no window of class 'up' to train on"):
        fitting_folds(windows, seed=0)


def test_a_share_that_cannot_be_split_names_the_class() -> None:
    y = np.array([0, 0, 1, 1])
    with pytest.raises(SplitError, match="training would lack class 'none', because windows that overlap"):
        part_by_share(y, y, 0.5, 0, ("none", "surge"))
