"""Jitter and magnitude warp."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from augmented import K, assert_candles, keys_of, make_candles
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from moola.augment import Jitter, MagnitudeWarp


def test_jitter_is_in_units_of_each_features_scale():
    scale = torch.tensor([1.0, 0.0, 100.0])
    x, keys = torch.randn(2000, K, 3), keys_of(2000)
    noise = (Jitter(scale, sigma=0.04, p=1.0)(x, keys).x - x).double()
    assert torch.equal(noise[:, :, 1], torch.zeros(2000, K).double())
    for feature in (0, 2):
        drawn = noise[:, :, feature] / scale[feature]
        assert kstest(drawn.ravel()[:20_000] / 0.04, "norm").pvalue > 1e-3
        assert drawn.std().item() == pytest.approx(0.04, rel=0.01)
        # Independent for each bar.
        assert abs(float((drawn[:, 1:] * drawn[:, :-1]).mean()) / 0.04**2) < 0.02
    assert torch.equal(Jitter(scale.numpy())(x, keys).x, Jitter(scale.tolist())(x, keys).x)
    assert Jitter(scale).state_dict().keys() == {"scale"}


@given(st.integers(0, 2**32), st.integers(1, 60), st.sampled_from([0.04, 0.3, 1.0]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_jittered_candles_stay_valid_candles(seed, length, sigma, masked):
    x, keys = make_candles(40, length, seed), keys_of(40, seed)
    rng = np.random.default_rng(seed)
    valid = torch.from_numpy(rng.random((40, length)) < 0.6) if masked else None
    result = Jitter(sigma=sigma, p=1.0, candles=True)(x, keys, None, valid).x
    assert_candles(result)
    # The ATR, bar by bar.
    for i in range(40):
        ranges = []
        for t in range(length):
            if valid is not None and not valid[i, t]:
                continue
            _, high, low, _ = x[i, t].tolist()
            if t and (valid is None or valid[i, t - 1]):
                high, low = max(high, x[i, t - 1, 3].item()), min(low, x[i, t - 1, 3].item())
            ranges.append(high - low)
        atr = sum(ranges) / max(len(ranges), 1)
        assert (result[i] - x[i]).abs().max() <= 6.7 * sigma * atr + 1e-3
        if length > 30 and atr:
            moved = (result[i, :, [0, 3]] - x[i, :, [0, 3]]).std().item() / atr
            assert 0.5 * sigma < moved < 1.6 * sigma


def test_jitter_leaves_no_price_at_zero():
    x = torch.tensor([[[1.0, 100.0, 0.01, 50.0]] * 30] * 200)
    assert_candles(Jitter(sigma=1.0, p=1.0, candles=True)(x, keys_of(200)).x)


def test_magnitude_curves_are_smooth_and_1_in_the_mean():
    keys = keys_of(20_000)
    curve = MagnitudeWarp(sigma=0.25, p=1.0)(torch.ones(20_000, K, 2), keys).x.double()
    assert bool((curve > 0).all())
    assert (curve.mean(0) - 1).abs().max() < 5 * 0.26 / math.sqrt(20_000)
    knots = curve.log()[:, [0, -1]]
    assert (knots.std(0) - 0.25).abs().max() < 0.01
    assert (knots.mean(0) + 0.25**2 / 2).abs().max() < 0.01
    # Each feature has its own.
    assert abs(np.corrcoef(curve[:, 0].T)[0, 1]) < 0.03
    # Through four knots the logarithm is one cubic: fourth differences are only rounding.
    assert curve.log().diff(n=4, dim=1).abs().max() < 1e-5
    x = torch.randn(50, K, 2)
    assert torch.equal(MagnitudeWarp(p=1.0)(x, keys[:50]).x, x * curve[:50].float())


@given(st.integers(0, 2**32), st.integers(1, 60), st.sampled_from([0.25, 1.0]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_magnitude_warped_candles_stay_valid_candles(seed, length, sigma, masked):
    x, keys = make_candles(40, length, seed), keys_of(40, seed)
    first = np.random.default_rng(seed).integers(0, length, 40) if masked else np.zeros(40, int)
    valid = torch.arange(length) >= torch.from_numpy(first)[:, None]
    result = MagnitudeWarp(sigma=sigma, p=1.0, candles=True)(x, keys, None, valid if masked else None).x
    assert_candles(result)
    base = x[torch.arange(40), torch.from_numpy(first), 3]
    close = result[torch.arange(40), torch.from_numpy(first), 3]
    assert torch.allclose(close, base, rtol=1e-6)
    # All four prices of a bar, by one factor that is the same for the bars of one curve.
    before, after = ((prices.double() / base[:, None, None]).log() for prices in (x, result))
    telling = before.abs() > 1e-3
    factor = torch.where(telling, after / before, torch.nan)
    middle = factor.nanmedian(2, keepdim=True).values
    assert bool(((factor / middle - 1).abs() < 0.01)[telling].all())
    assert bool((factor[telling] > 0).all())
