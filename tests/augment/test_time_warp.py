"""Time warp: smooth maps, spans, hidden bars."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from augmented import K, assert_candles, keys_of, make_candles
from hypothesis import given, settings
from hypothesis import strategies as st

from moola.augment import Augmentation, TimeWarp, window_keys


def check_time_warps(windows: int, seed: int, sigma: float, knots: int) -> None:
    """The data hold a marker: each bar holds its own number, so a warped bar shows its origin."""
    size = 5000
    for at in range(0, windows, size):
        keys = window_keys(seed, at, torch.arange(size))
        rng = np.random.default_rng([seed, at])
        spans = torch.from_numpy(np.sort(rng.integers(0, K, (size, 2)), axis=1))
        without = torch.from_numpy(rng.random(size) < 0.1)
        spans[without] = -1
        candles = make_candles(size, seed=seed)
        number = torch.arange(K, dtype=torch.float32).expand(size, K)
        warp = TimeWarp(sigma, knots, p=1.0)
        x, moved, valid = warp(torch.cat([candles, number[..., None]], 2), keys, spans)
        assert valid is None
        marker = x[..., 4]
        assert bool((marker.diff(dim=1) >= 0).all())
        assert bool((marker[:, 0] == 0).all())
        assert bool((marker[:, -1] == K - 1).all())
        times = warp.times(keys, K)
        assert bool((times.diff(dim=1) > 0).all())
        assert (times - marker).abs().max() < 1e-4
        assert_candles(x[..., :4])

        assert bool((moved[without] == -1).all())
        assert bool((moved[~without] >= 0).all())
        assert bool((moved < K).all())
        assert bool((moved[:, 0] <= moved[:, 1]).all())
        for end in (0, 1):
            # The bar of the result with the times nearest to the span's end.
            nearest = (marker - spans[:, end, None]).abs().argmin(1)
            error = (nearest - moved[:, end])[~without].abs()
            assert int(error.max()) <= 1
        # Compared with the same map inverted by NumPy, window by window.
        for i in range(0, size, 50):
            if not without[i]:
                exact = np.interp(spans[i], times[i], np.arange(K))
                assert np.abs(moved[i].numpy() - exact).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(("sigma", "knots"), [(0.1, 4), (1.0, 4), (0.3, 9), (1.0, 2)])
def test_spans_go_through_the_same_map_as_bars(sigma, knots):
    check_time_warps(20_000 if sigma == 0.1 else 5_000, 0, sigma, knots)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_million_time_warps():
    check_time_warps(1_000_000, 1, 0.1, 4)


def test_time_warps_are_smooth_and_have_the_configured_strength():
    times = TimeWarp(sigma=0.1).times(keys_of(20_000), K)
    speed = times.diff(dim=1)
    # Scaling to the length of the window takes the mean out; what is left at the ends is near sigma.
    relative = (speed[:, 0] / speed[:, -1]).log().std().item()
    assert relative == pytest.approx(0.1 * math.sqrt(2), rel=0.05)
    assert speed.log().diff(n=4, dim=1).abs().max() < 1e-6
    displacement = (times - torch.arange(K)).abs().max(1).values
    assert 0.5 < displacement.mean() < 5


def oracle(x: np.ndarray, valid: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One window, bar by bar."""
    warped, shown = np.full(len(x), np.nan), np.zeros(len(x), bool)
    for t, time in enumerate(times):
        low = int(time)
        high = low if time == low else low + 1
        shown[t] = valid[low] and valid[high]
        if shown[t]:
            warped[t] = x[low] + (time - low) * (x[high] - x[low])
    return warped, shown


@given(st.integers(0, 2**32), st.integers(2, 40), st.sampled_from([0.05, 0.3, 0.7, 1.0]))
@settings(max_examples=60, deadline=None)
def test_masked_bars_never_reach_the_output(seed, length, share):
    rng = np.random.default_rng(seed)
    valid = rng.random((60, length)) < share
    x = rng.normal(size=(60, length))
    x[~valid] = np.nan
    warp, keys = TimeWarp(sigma=0.5, p=0.8), keys_of(60, seed)
    given_x = torch.from_numpy(x)[..., None].float()
    result, spans, shown = warp(
        given_x, keys, torch.zeros((60, 2), dtype=torch.int64), torch.from_numpy(valid)
    )
    assert bool(result[shown].isfinite().all())
    assert bool((spans == 0).all())
    changed = warp(torch.arange(length).expand(60, length)[..., None].double(), keys).x[..., 0]
    for i in range(60):
        wanted, wanted_shown = oracle(x[i], valid[i], changed[i].numpy())
        if valid[i].any() and not wanted_shown.any():
            wanted, wanted_shown = x[i], valid[i]
        assert np.array_equal(shown[i], wanted_shown)
        assert np.allclose(result[i, shown[i], 0], wanted[shown[i]], atol=1e-4)


def test_a_window_that_would_lose_its_last_bar_is_left_unchanged():
    valid = torch.zeros((300, K), dtype=torch.bool)
    valid[:, 50] = True
    spans = torch.full((300, 2), 50)
    x = torch.randn(300, K, 2)
    result = TimeWarp(p=1.0)(x, keys_of(300), spans, valid)
    assert torch.equal(result.valid, valid)
    assert torch.equal(result.spans, spans)
    assert torch.equal(result.x, x)
    nothing = torch.zeros_like(valid)
    assert torch.equal(TimeWarp(p=1.0)(x, keys_of(300), spans, nothing).valid, nothing)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_windows_are_augmented(length):
    x, keys = make_candles(200, length), keys_of(200)
    spans = torch.tensor([[0, length - 1]]).repeat(200, 1)
    for candles in (True, False):
        scale = None if candles else torch.ones(4)
        result = Augmentation(scale, candles=candles)(
            x, keys, spans, torch.ones((200, length), dtype=torch.bool)
        )
        assert bool(result.x.isfinite().all())
        assert torch.equal(result.spans, spans)
        assert bool(result.valid.all())
    assert_candles(TimeWarp(sigma=1.0, p=1.0)(x, keys).x)
    assert torch.equal(TimeWarp(sigma=1.0, p=1.0)(x, keys).x[:, [0, -1]], x[:, [0, -1]])
