"""The check of shared bars, and planted leaks that it must find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import (
    KFold,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsClassifier
from split_windows import ENDS, SPLITTERS, STARTS, overlap, windows
from tiny_store import MINUTE, START

from moola.errors import ConfigError, MoolaError, SharedBarsError
from moola.splits import (
    PurgedKFold,
    assert_no_shared_bars,
)

# ---- the check itself --------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(windows(), st.data())
def test_the_check_raises_only_if_bars_are_shared(case, data):
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


def test_the_check_finds_one_window_on_both_sides():
    with pytest.raises(SharedBarsError, match=r"window 4 of train .* and window 4 of test"):
        assert_no_shared_bars(np.arange(9), np.arange(9), [0, 1, 4], [4, 5])


def test_bars_of_two_symbols_at_one_time_are_shared_only_in_time():
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
def test_the_check_refuses_wrong_windows(train, message):
    with pytest.raises(ConfigError, match=message):
        assert_no_shared_bars([0, 5, 10], [4, 9, 14], train, [0])


def test_empty_sets_share_no_bars():
    assert_no_shared_bars([0, 0], [9, 9], [], [0, 1])
    assert_no_shared_bars([0, 0], [9, 9], [0], np.zeros(2, bool))


# ---- planted leaks -----------------------------------------------------------------------------------------------


class Unpurged(PurgedKFold):
    """A purged K-fold without the purge."""

    def _train(self, block: int, fold: int, folds: np.ndarray) -> np.ndarray:
        return self._tested.number != block


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
def test_a_splitter_without_a_purge_is_caught(splitter):
    for train, test in splitter.split(STARTS):
        with pytest.raises(SharedBarsError, match="Purge them"):
            assert_no_shared_bars(STARTS, ENDS, train, test)


@pytest.mark.parametrize("kind", SPLITTERS)
def test_a_label_that_reaches_into_the_test_set_is_caught(kind):
    """The windows are purged, but the splitter was not told that labels look 30 bars ahead."""
    labels = ENDS + 30
    for train, test in kind(STARTS, ENDS).split():
        assert_no_shared_bars(STARTS, ENDS, train, test)
        with pytest.raises(SharedBarsError):
            assert_no_shared_bars(STARTS, ENDS, train, test, label_ends=labels)
        with pytest.raises(SharedBarsError):
            assert_no_shared_bars(STARTS, labels, train, test)
    for train, test in kind(STARTS, ENDS, label_ends=labels).split():
        assert_no_shared_bars(STARTS, ENDS, train, test, label_ends=labels)


def test_a_leak_raises_scores_and_a_purge_removes_it():
    """The labels are unpredictable and the windows overlap: a neighbour's label is the window's own."""
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
