"""The kinds of models that a stack combines: their common contract, and the behaviour of each."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from labelled import make_windows
from sklearn.base import clone

from moola.errors import ConfigError
from moola.estimators import KINDS, RandomKernels, TemporalConvolution, make_member
from moola.estimators.rocket import _draw, _outcomes

QUICK: dict[str, dict[str, Any]] = {
    "jade": {"hidden_size": 8, "epochs": 1, "augmentation": False},
    "jade_compact": {"hidden_size": 8, "epochs": 2, "lr": 1e-2, "augmentation": False},
    "convolution": {"channels": 8, "blocks": 3, "epochs": 15, "lr": 1e-2},
    "regression": {},
    "boosted_trees": {"trees": 20},
    "rocket": {"kernels": 100, "C": 1e-2},
}
LEARNERS = ("convolution", "regression", "boosted_trees", "rocket")
OWN = ("convolution", "boosted_trees", "rocket")


def quick(kind: str, **others: Any) -> Any:
    return make_member(kind, **QUICK[kind] | others)


def padded(X: np.ndarray, valid: np.ndarray, before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """The same windows between hidden bars of any kind."""
    ends = ((0, 0), (before, after))
    return (
        np.pad(X, (*ends, (0, 0)), constant_values=np.nan),
        np.pad(valid, ends, constant_values=False),
    )


# The common contract


@pytest.mark.parametrize("kind", KINDS)
def test_members_give_probabilities_of_named_classes(kind: str) -> None:
    windows = make_windows(24)
    labels = np.array(windows.classes)[windows.y]
    member = clone(quick(kind))
    assert member.fit(windows.X, labels, windows.spans, windows.valid_mask, windows.weight) is member
    p = member.predict_proba(windows.X[:5], windows.valid_mask[:5])
    assert p.shape == (5, 2)
    assert np.allclose(p.sum(axis=1), 1)
    assert member.classes_.tolist() == ["none", "up"]
    said = member.predict(windows.X[:5], windows.valid_mask[:5])
    assert said.tolist() == member.classes_[p.argmax(axis=1)].tolist()
    if kind.startswith("jade"):
        assert member.predict_spans(windows.X[:5], windows.valid_mask[:5]).shape == (5, 2)


@pytest.mark.parametrize("kind", LEARNERS)
def test_members_learn_a_ramp(kind: str) -> None:
    windows, others = make_windows(100, seed=1), make_windows(200, seed=2)
    member = quick(kind).fit(windows.X, windows.y, valid_mask=windows.valid_mask)
    right = member.predict(others.X, others.valid_mask) == others.y
    assert right.mean() > 0.85


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("before", "after"), [(7, 0), (0, 5), (3, 4)])
def test_padding_that_the_mask_hides_changes_nothing(kind: str, before: int, after: int) -> None:
    windows = make_windows(30)
    member = quick(kind).fit(windows.X, windows.y, windows.spans, windows.valid_mask)
    p = member.predict_proba(windows.X, windows.valid_mask)
    X, valid = padded(windows.X, windows.valid_mask, before, after)
    assert np.allclose(member.predict_proba(X, valid), p, atol=1e-5)


@pytest.mark.parametrize("kind", LEARNERS)
def test_hidden_bars_change_no_bit_of_training(kind: str) -> None:
    windows = make_windows(30)
    other = windows.X.copy()
    other[~windows.valid_mask] = np.nan
    p = [
        quick(kind)
        .fit(X, windows.y, valid_mask=windows.valid_mask)
        .predict_proba(windows.X, windows.valid_mask)
        for X in (windows.X, other)
    ]
    assert np.array_equal(*p)


@pytest.mark.parametrize("kind", LEARNERS)
def test_weights_shift_probabilities(kind: str) -> None:
    windows = make_windows(60)
    p = [
        quick(kind).fit(windows.X, windows.y, sample_weight=weight).predict_proba(windows.X)[:, 1].mean()
        for weight in (np.where(windows.y == 1, 1, 20), np.where(windows.y == 1, 20, 1))
    ]
    assert p[0] < p[1]


@pytest.mark.parametrize("kind", ["convolution", "rocket"])
def test_the_seed_determines_a_member(kind: str) -> None:
    windows = make_windows(30)
    state = torch.get_rng_state()
    p = [quick(kind, seed=seed).fit(windows.X, windows.y).predict_proba(windows.X) for seed in (3, 3, 4)]
    assert np.array_equal(p[0], p[1])
    assert not np.allclose(p[0], p[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_windows_of_one_feature_may_have_two_dimensions() -> None:
    windows = make_windows(30)
    one = RandomKernels(50).fit(windows.X[:, :, 0], windows.y)
    assert np.array_equal(one.predict_proba(windows.X[:, :, :1]), one.predict_proba(windows.X[:, :, 0]))


# Each kind


def test_kernels_are_convolutions_over_valid_bars() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 30, 3)).astype(np.float32)
    valid = rng.random((2, 30)) < 0.8
    x[~valid] = 0
    kernels = _draw(40, 30, 3, np.random.default_rng(1))
    found = _outcomes(x, valid, kernels)
    at = 0
    for dilation, weights, biases in kernels:
        assert dilation * (len(weights) - 1) < 30
        for kernel in range(len(biases)):
            outcome = np.full((2, 30), biases[kernel], np.float64)
            for tap in range(len(weights)):
                shift = dilation * (tap - (len(weights) - 1) // 2)
                for bar in range(30):
                    if 0 <= bar + shift < 30:
                        outcome[:, bar] += x[:, bar + shift] @ weights[tap, :, kernel]
            highest = np.where(valid, outcome, -np.inf).max(axis=1)
            assert np.allclose(found[:, at], highest, atol=1e-4)
            above = ((outcome > 0) & valid).sum(axis=1) / valid.sum(axis=1)
            assert np.abs(found[:, 40 + at] - above).max() < 0.05
            at += 1
    assert at == 40


def test_kernels_look_at_one_feature_or_more() -> None:
    looked = [
        (weights[:, :, kernel] != 0).any(axis=0).sum()
        for _, weights, biases in _draw(300, 60, 5, np.random.default_rng(0))
        for kernel in range(len(biases))
    ]
    assert min(looked) == 1
    assert max(looked) == 5


def test_the_convolution_sees_no_later_bar() -> None:
    windows = make_windows(20)
    network = TemporalConvolution(8, 3, epochs=1).fit(windows.X, windows.y).model_
    x = torch.from_numpy(windows.X[:1]).requires_grad_()
    # In a mean over the first ten bars, no other bar has a gradient.
    valid = torch.arange(24)[None] < 10
    network(x, valid).sum().backward()
    assert x.grad is not None
    moved = x.grad.abs().sum(dim=2)[0] > 0
    assert moved[:10].all()
    assert not moved[10:].any()


# Refusals

W = make_windows(12)
REFUSALS: list[tuple[Callable[[Any], object], str]] = [
    (
        lambda m: m.fit(W.X[0, 0], W.y),
        "X: has the shape (2,); give windows as [n, K, D], or [n, K] of one feature",
    ),
    (
        lambda m: m.fit(W.X, W.y).predict_proba(W.X[:, :, :1]),
        "X: has 1 features, the model was fitted on 2; give the same features, in the same order",
    ),
    (
        lambda m: m.fit(W.X, W.y, valid_mask=W.valid_mask[:, 1:]),
        "valid_mask: is bool of shape (12, 23); give True or False for each bar of X, [12, 24]",
    ),
    (
        lambda m: m.fit(W.X, W.y, valid_mask=np.arange(12)[:, None] != np.full(24, 4)),
        "valid_mask: leaves window 4 no bar; leave that window out",
    ),
    (
        lambda m: m.fit(np.where(np.arange(12)[:, None, None] == 3, np.nan, W.X), W.y),
        "X: has a NaN or infinite value in window 3; give finite values, or hide the bar with valid_mask",
    ),
    (lambda m: m.fit(W.X, W.y[1:]), "y: has the shape (11,) for 12 windows; give one label a window"),
    (lambda m: m.fit(W.X, W.y * 0), "y: has one class, 0; give windows of at least two classes"),
    (
        lambda m: m.fit(W.X, W.y, sample_weight=-np.ones(12)),
        "sample_weight: is not one finite number of 0 or more for each window; give [n], not all 0",
    ),
]


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize(("wrong", "message"), REFUSALS, ids=[message[:40] for _, message in REFUSALS])
def test_impossible_settings_are_refused(kind: str, wrong: Callable[[Any], object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        wrong(quick(kind))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: make_member("forest"),
            "member: 'forest' is not a kind of model; give one of jade, jade_compact, ",
        ),
        (
            lambda: make_member("trees", encoder="run"),
            "encoder: cannot be used by boosted_trees; give it to jade or jade_compact",
        ),
        (
            lambda: make_member("trees", leafs=3),
            "member: boosted_trees has no parameter 'leafs'; give some of leaves, lr, seed, trees",
        ),
        (
            lambda: RandomKernels(0).fit(W.X, W.y),
            "kernels: 0 is not a number of kernels; give 1 or more",
        ),
        (
            lambda: TemporalConvolution(epochs=0).fit(W.X, W.y),
            "epochs: 0 is out of range; give a whole number from 1 to",
        ),
    ],
)
def test_wrong_member_arguments_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        make()


@pytest.mark.parametrize(("old", "new"), [("trees", "boosted_trees"), ("kernels", "rocket")])
def test_member_kinds_of_version_0_1_are_read(old: str, new: str) -> None:
    assert type(make_member(old)) is type(make_member(new))
    assert make_member(old).get_params() == make_member(new).get_params()
