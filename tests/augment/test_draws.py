"""Keyed draws and curves, compared with their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from augmented import keys_of
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_oracle import GOLDEN, MASK64, fnv1a, fold, mix
from scipy.interpolate import CubicSpline
from scipy.stats import binomtest, kstest

from moola.augment import window_keys
from moola.augment.curves import curves, spline_basis
from moola.augment.draws import chosen, normals
from moola.errors import ConfigError


@pytest.mark.parametrize("time", [0, -1, 1_700_000_000_000_000_000, -(2**63), 2**63 - 1])
@pytest.mark.parametrize(("seed", "epoch", "copy"), [(0, 0, 0), (7, 3, 4), (2**63 - 1, 10**6, 1)])
def test_keys_equal_their_definition(time, seed, epoch, copy):
    def expected(*words: int) -> int:
        key = fnv1a("augmentation")
        for word in words:
            key = fold(key, word & MASK64)
        return key

    times = torch.tensor([time])
    symbol = torch.tensor([-5])
    assert window_keys(seed, epoch, times, copy).item() & MASK64 == expected(seed, epoch, time, copy)
    pair = window_keys(seed, epoch, (symbol, times), torch.tensor([copy]))
    assert pair.item() & MASK64 == expected(seed, epoch, -5, time, copy)


def test_every_input_of_a_key_matters():
    windows = torch.arange(100)
    keys = [
        window_keys(seed, epoch, windows, copy)
        for seed in range(3)
        for epoch in range(3)
        for copy in range(5)
    ]
    keys.append(window_keys(0, 0, (windows, windows)))
    keys.append(window_keys(0, 0, (windows, windows + 1)))
    assert len(torch.cat(keys).unique()) == 47 * 100
    copies = torch.arange(100) % 5
    mixed = window_keys(1, 2, windows, copies)
    for copy in range(5):
        assert torch.equal(mixed[copies == copy], window_keys(1, 2, windows, copy)[copies == copy])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((-1, 0, torch.arange(3)), "seed: -1 is out of range; give a whole number from 0"),
        ((0, 1.5, torch.arange(3)), "epoch: 1.5 is not a whole number; give one from 0"),
        ((0, 0, [1, 2]), r"windows: is a list; give a tensor \[B\] of int64"),
        (
            (0, 0, torch.ones(3)),
            r"windows: is torch.float32 of shape \[3\]; give one int64 for each window, \[B\]",
        ),
        ((0, 0, ()), "windows: is empty; give values that identify the windows"),
        (
            (0, 0, (torch.arange(3), torch.arange(2))),
            r"windows: is torch.int64 of shape \[2\]; give one int64",
        ),
        ((0, 0, torch.arange(3), -1), "copy: -1 is out of range"),
        ((0, 0, torch.arange(3), torch.arange(4)), r"copy: is torch.int64 of shape \[4\]; give one int64"),
    ],
)
def test_keys_refuse_wrong_arguments(arguments, problem):
    with pytest.raises(ConfigError, match=problem):
        window_keys(*arguments)


def test_windows_are_chosen_by_whole_number_arithmetic():
    keys = keys_of(20_000)
    first = [mix((key & MASK64) + GOLDEN & MASK64) for key in keys.tolist()]
    for p in (0.0, 1e-9, 0.3, 0.9, 1.0):
        expected = [hashed >> 11 < math.floor(p * 2**53) for hashed in first]
        assert chosen(keys, p).tolist() == expected
        assert binomtest(sum(expected), len(expected), p).pvalue > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_are_normal_and_independent(dtype):
    drawn = normals(keys_of(20_000), 7, dtype).double().numpy()
    assert np.isfinite(drawn).all()
    assert np.abs(drawn).max() < 6.7
    assert kstest(drawn.ravel(), "norm").pvalue > 1e-3
    # Neither for the items of one window, nor for neighbouring windows.
    together = np.concatenate([drawn[:-1], drawn[1:]], axis=1)
    for power in (1, 2):
        correlation = np.corrcoef(together.T**power) - np.eye(14)
        assert np.abs(correlation).max() < 5 / math.sqrt(len(drawn))


def test_normals_equal_their_definition():
    keys = keys_of(50)
    pairs, drawn = 4, normals(keys, 7, torch.float64)
    for key, row in zip(keys.tolist(), drawn.tolist(), strict=True):
        for i, value in enumerate(row):
            hashed = mix((key & MASK64) + GOLDEN * (i % pairs + 2) & MASK64)
            radius = math.sqrt(-2 * math.log(((hashed >> 32) + 1) / 2**32))
            angle = 2 * math.pi * (hashed & 0xFFFFFFFF) / 2**32
            wanted = radius * (math.cos(angle) if i < pairs else math.sin(angle))
            assert value == pytest.approx(wanted, abs=1e-12)
    assert torch.allclose(normals(keys, 7, torch.float32).double(), drawn, atol=1e-5)


@given(st.integers(2, 12), st.integers(1, 200), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_curves_are_splines_through_their_knots(knots, length, between, seed):
    basis = spline_basis(knots, length, between=between, dtype=torch.float64, device=torch.device("cpu"))
    values = np.random.default_rng(seed).normal(size=(3, knots))
    bars = np.arange(length - 1) + 0.5 if between else np.arange(length)
    spline = CubicSpline(np.linspace(0, max(length - 1, 1), knots), values, axis=1)
    assert np.allclose(curves(torch.from_numpy(values), basis), spline(bars), atol=1e-9)
    # Equal knots make a constant curve.
    assert torch.allclose(basis.sum(0), torch.ones_like(basis[0]), atol=1e-9)
