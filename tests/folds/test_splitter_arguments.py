"""Splitters as scikit-learn uses them, and arguments that they refuse."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sklearn
from hypothesis import assume, given
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
from split_windows import ENDS, SPLITTERS, STARTS, TIMES, lists, panel
from tiny_store import MINUTE

import moola.splits
from moola.errors import ConfigError
from moola.splits import (
    CombinatorialPurgedKFold,
    PurgedKFold,
    WalkForward,
)

# ---- with scikit-learn -------------------------------------------------------------------------------------------


@given(st.integers(6, 60), st.integers(2, 6))
def test_windows_of_one_bar_are_split_as_scikit_learn_does(n, n_splits):
    bars = np.arange(n)
    assert lists(PurgedKFold(bars, bars, n_splits).split()) == lists(KFold(n_splits).split(bars))
    folds = list(KFold(n_splits).split(bars))
    ones = CombinatorialPurgedKFold(bars, bars, n_splits, 1)
    assert lists(ones.split()) == lists(folds)


@given(st.integers(10, 60), st.integers(2, 4), st.integers(0, 5), st.none() | st.integers(1, 30))
def test_walk_forward_over_windows_of_one_bar_equals_scikit_learn(n, n_splits, gap, size):
    bars = np.arange(n)
    assume(n - n // (n_splits + 1) * n_splits > gap)
    theirs = TimeSeriesSplit(n_splits, gap=gap, max_train_size=size).split(bars)
    assert lists(WalkForward(bars, bars, n_splits, embargo=gap, train_size=size).split()) == lists(theirs)


@pytest.mark.parametrize("kind", SPLITTERS)
def test_scikit_learn_accepts_the_splitters(kind):
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
        with pytest.raises(ConfigError, match=f"groups: are not used by {kind.__name__}; leave them out"):
            splitter.split(groups=y)
        with pytest.raises(ValueError, match="partition"):
            cross_val_predict(model, x, y, cv=splitter)


@pytest.mark.parametrize("kind", SPLITTERS)
def test_samples_of_another_length_are_refused(kind):
    splitter = kind(STARTS, ENDS)
    for x in (np.zeros((199, 2)), [0] * 199):
        with pytest.raises(
            ConfigError, match="X: has 199 samples, but this splitter has 200 windows; make another"
        ):
            splitter.split(x)
    assert lists(splitter.split([0] * 200)) == lists(splitter.split())


@pytest.mark.parametrize("kind", SPLITTERS)
def test_splitters_can_be_copied_and_pickled(kind):
    times, _ = panel(1100, 1)
    splitter = kind(STARTS, ENDS, embargo=7, times=times)
    for other in (copy.deepcopy(splitter), pickle.loads(pickle.dumps(splitter))):
        assert lists(other.split()) == lists(splitter.split())
    assert repr(splitter).startswith(f"<{kind.__name__} of 200 windows, embargo=7, n_")


def test_splitters_do_not_keep_the_callers_arrays():
    starts, ends = STARTS.copy(), ENDS.copy()
    splitter = PurgedKFold(starts, ends)
    before = lists(splitter.split())
    starts += 100
    ends[:] = 5000
    assert lists(splitter.split()) == before


# ---- nonsense ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPLITTERS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"starts": []}, r"starts: is empty; give at least one window"),
        ({"starts": [[0, 1]]}, r"starts: has 2 dimensions; give one value per window"),
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
            r"times: do not ascend from bar 0 to the next; sort the bars, or give the symbol",
        ),
        (
            {"times": TIMES[::-1], "symbols": ["A", "A", "B"]},
            r"times: do not ascend from bar 0 to the next, both of A; sort its bars, or give each of several",
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
            r"symbols: cannot be compared with each other; give one string per window",
        ),
    ],
)
def test_wrong_windows_are_refused(kind, arguments, message):
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
def test_wrong_settings_are_refused(kind, arguments, message):
    with pytest.raises(ConfigError, match=message):
        kind(STARTS, ENDS, **arguments)


def test_symbols_one_after_the_other_need_no_order_among_them():
    times = np.concatenate([TIMES, TIMES - 3 * MINUTE])
    starts = np.array([0, 5, 10, 15, 20, 25, 30, 35])
    symbols = ["Z"] * 4 + ["A"] * 4
    splits = lists(PurgedKFold(starts, starts + 4, n_splits=2, times=times, symbols=symbols).split())
    # A's bars are 3 minutes earlier than Z's. In the order of time: A0 Z0 A1 Z1 | A2 Z2 A3 Z3; Z1 reaches over A2.
    assert splits == [([2, 3, 7], [0, 1, 4, 5]), ([0, 4, 5], [2, 3, 6, 7])]


def test_the_splitters_work_without_scikit_learn():
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
