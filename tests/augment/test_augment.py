"""Augmentation: draws that belong to their window, maps that move labels along, candles that stay candles."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_oracle import GOLDEN, MASK64, fnv1a, fold, mix
from scipy.interpolate import CubicSpline
from scipy.stats import binomtest, kstest
from tiny_store import build
from torch import Tensor

from moola import FastWindowedDataset
from moola.augment import (
    Augmentation,
    AugmentationConfig,
    Augmented,
    Jitter,
    MagnitudeWarp,
    TimeWarp,
    feature_ranges,
    feature_scale,
    window_keys,
)
from moola.augment.curves import curves, spline_basis
from moola.augment.draws import chosen, normals
from moola.errors import ConfigError
from moola.settings.sections import parse_config
from moola.settings.yaml import read_yaml

K = 105


def keys_of(count: int, seed: int = 0) -> Tensor:
    return window_keys(seed, 0, torch.arange(count))


@lru_cache(maxsize=4)
def make_candles(count: int, length: int = K, seed: int = 0) -> Tensor:
    """Random walks on a grid of ticks, where highs and lows often equal opens and closes. `[count, length, 4]`."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-3, 4, (count, length, 4))
    close = 4000 + steps[..., 0].cumsum(1)
    open = close - steps[..., 1]
    high = np.maximum(open, close) + np.maximum(steps[..., 2], 0)
    low = np.minimum(open, close) - np.maximum(steps[..., 3], 0)
    return torch.from_numpy(np.stack([open, high, low, close], 2) * 0.25).float()


def assert_candles(x: Tensor) -> None:
    open, high, low, close = x.unbind(-1)
    assert bool((low > 0).all())
    for price in (open, close):
        assert bool(((low <= price) & (price <= high)).all())


MODULES: dict[str, Any] = {
    "jitter": lambda **o: Jitter(torch.tensor([1.0, 2.0, 0.5, 3.0]), **o),
    "magnitude": lambda **o: MagnitudeWarp(**o),
    "time": lambda **o: TimeWarp(**o),
    "jitter of candles": lambda **o: Jitter(candles=True, **o),
    "magnitude of candles": lambda **o: MagnitudeWarp(candles=True, **o),
}


@pytest.fixture(params=list(MODULES))
def module(request) -> Any:
    return MODULES[request.param]


# Draws


@pytest.mark.parametrize("time", [0, -1, 1_700_000_000_000_000_000, -(2**63), 2**63 - 1])
@pytest.mark.parametrize(("seed", "epoch", "copy"), [(0, 0, 0), (7, 3, 4), (2**63 - 1, 10**6, 1)])
def test_keys_are_those_of_the_definition(time, seed, epoch, copy):
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
        ((0, 0, torch.ones(3)), r"windows: is torch.float32 of shape \[3\]; give one int64 a window, \[B\]"),
        ((0, 0, ()), "windows: is empty; give what tells windows apart"),
        (
            (0, 0, (torch.arange(3), torch.arange(2))),
            r"windows: is torch.int64 of shape \[2\]; give one int64",
        ),
        ((0, 0, torch.arange(3), -1), "copy: -1 is out of range"),
        ((0, 0, torch.arange(3), torch.arange(4)), r"copy: is torch.int64 of shape \[4\]; give one int64"),
    ],
)
def test_keys_refuse_what_makes_no_sense(arguments, problem):
    with pytest.raises(ConfigError, match=problem):
        window_keys(*arguments)


def test_which_windows_are_chosen_is_whole_number_arithmetic():
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
    # Neither of one window's items, nor of windows next to each other.
    together = np.concatenate([drawn[:-1], drawn[1:]], axis=1)
    for power in (1, 2):
        correlation = np.corrcoef(together.T**power) - np.eye(14)
        assert np.abs(correlation).max() < 5 / math.sqrt(len(drawn))


def test_normals_are_those_of_the_definition():
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


# Curves


@given(st.integers(2, 12), st.integers(1, 200), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_curves_are_splines_through_their_knots(knots, length, between, seed):
    basis = spline_basis(knots, length, between=between, dtype=torch.float64, device=torch.device("cpu"))
    values = np.random.default_rng(seed).normal(size=(3, knots))
    bars = np.arange(length - 1) + 0.5 if between else np.arange(length)
    spline = CubicSpline(np.linspace(0, max(length - 1, 1), knots), values, axis=1)
    assert np.allclose(curves(torch.from_numpy(values), basis), spline(bars), atol=1e-9)
    # Knots that are all alike make a curve that is one number.
    assert torch.allclose(basis.sum(0), torch.ones_like(basis[0]), atol=1e-9)


# What holds for every module


def test_a_window_has_the_same_bits_in_any_batch(module):
    warp = module(p=0.7)
    x, keys = make_candles(60), keys_of(60)
    spans = torch.tensor([[20, 70]]).repeat(60, 1)
    valid = torch.arange(K).expand(60, K) >= torch.arange(60)[:, None]
    whole = warp(x, keys, spans, valid)
    order = torch.from_numpy(np.random.default_rng(1).permutation(60))
    mixed = warp(x[order], keys[order], spans[order], valid[order])
    for one, other in zip(whole, mixed, strict=True):
        assert torch.equal(one[order], other)
    for size in (1, 2, 7, 31):
        for at in range(0, 60, size):
            these = slice(at, at + size)
            for one, other in zip(
                whole, warp(x[these], keys[these], spans[these], valid[these]), strict=True
            ):
                assert torch.equal(one[these], other)


def test_nothing_to_do_is_what_was_given_to_the_bit(module):
    x, keys = make_candles(20).clone(), keys_of(20)
    x[0, 0, 0] = -0.0
    spans, valid = torch.zeros((20, 2), dtype=torch.int64), torch.ones((20, K), dtype=torch.bool)
    for warp in (module(sigma=0.0), module(p=0.0), module(sigma=0.0, p=0.0), module(p=1.0).eval()):
        result = warp(x, keys, spans, valid)
        assert isinstance(result, Augmented)
        assert result.x is x
        assert result.spans is spans
        assert result.valid is valid
    assert module()(x[:0], keys[:0]).x.shape == (0, K, 4)


def test_p_is_a_share_of_windows_and_the_others_stay_as_they_are(module):
    x, keys = make_candles(2000), keys_of(2000)
    for p in (0.2, 1.0):
        same = (module(p=p)(x, keys).x == x).flatten(1).all(1)
        assert binomtest(int((~same).sum()), len(x), p).pvalue > 1e-4
        # Who is chosen depends on the key alone, and not on how strong the warp is.
        assert torch.equal(same, (module(p=p, sigma=0.5)(x, keys).x == x).flatten(1).all(1))


def test_what_is_given_is_not_altered(module):
    x, keys = make_candles(50), keys_of(50)
    spans, valid = torch.tensor([[20, 70]]).repeat(50, 1), torch.ones((50, K), dtype=torch.bool)
    given = (x, keys, spans, valid)
    kept = [tensor.clone() for tensor in given]
    result = module(p=1.0)(*given)
    assert all(torch.equal(a, b) for a, b in zip(given, kept, strict=True))
    assert not torch.equal(result.x, x)
    assert result.x.dtype == x.dtype
    # No memory of the caller's is handed back as new.
    assert result.x.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_floating_types_and_strides(module, dtype):
    x, keys = make_candles(30), keys_of(30)
    warp = module(p=1.0)
    expected = warp(x, keys).x
    result = warp(x.to(dtype), keys).x
    assert result.dtype == dtype
    assert torch.allclose(result.float(), expected, rtol=1e-5 if dtype == torch.float64 else 0.02)
    assert torch.equal(warp(x.transpose(0, 1).contiguous().transpose(0, 1), keys).x, expected)


def test_nothing_waits_for_the_device(module):
    # Tensors that hold no numbers: whoever asks for one, or for a shape that depends on them, gets an error.
    given = (
        torch.empty((6, K, 4), device="meta"),
        torch.empty(6, dtype=torch.int64, device="meta"),
        torch.empty((6, 2), dtype=torch.int64, device="meta"),
        torch.empty((6, K), dtype=torch.bool, device="meta"),
    )
    with pytest.raises((RuntimeError, NotImplementedError)):
        given[1].sum().item()
    assert window_keys(0, 0, given[1], 2).device.type == "meta"
    x, spans, valid = module().to("meta")(*given)
    assert (x.shape, spans.shape, valid.shape) == ((6, K, 4), (6, 2), (6, K))
    assert x.device.type == spans.device.type == valid.device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares a GPU with the CPU")
def test_a_gpu_draws_the_same(module):
    x, keys = make_candles(500), keys_of(500)
    spans = torch.tensor([[20, 70]]).repeat(500, 1)
    here, there = module(), module().cuda()
    assert torch.equal(window_keys(3, 4, torch.arange(9)), window_keys(3, 4, torch.arange(9).cuda()).cpu())
    assert torch.equal(chosen(keys, 0.3), chosen(keys.cuda(), 0.3).cpu())
    one, other = here(x, keys, spans), there(x.cuda(), keys.cuda(), spans.cuda())
    assert torch.allclose(one.x, other.x.cpu(), rtol=1e-5, atol=1e-4)
    assert torch.equal(one.spans, other.spans.cpu())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"x": torch.ones(3, K)}, r"x: is torch.float32 of shape \[3, 105\]; give windows, \[B, K, D\]"),
        ({"x": torch.ones((3, K, 4), dtype=torch.int64)}, "x: is torch.int64 of shape .* of floating type"),
        ({"keys": torch.arange(4)}, r"keys: is torch.int64 of shape \[4\]; with this x, give .* \[3\]"),
        ({"keys": torch.ones(3)}, "keys: is torch.float32 of .*; with this x, give torch.int64"),
        ({"spans": torch.ones((3, 2))}, r"spans: is torch.float32 .* give torch.int64 of shape \[3, 2\]"),
        (
            {"spans": torch.tensor([[0, 9], [5, K], [9, 0]])},
            "spans: is 5 to 105 for window 1; give first and last",
        ),
        (
            {"spans": torch.tensor([[0, 9], [-1, -1], [9, 0]])},
            "spans: is 9 to 0 for window 2; give first and last",
        ),
        (
            {"spans": torch.tensor([[-1, 9]] * 3)},
            "spans: is -1 to 9 for window 0; give .* or −1 and −1 for none",
        ),
        ({"valid": torch.ones((3, K))}, r"valid: is torch.float32 .* give torch.bool of shape \[3, 105\]"),
    ],
)
def test_batches_that_make_no_sense_are_refused(module, changes, problem):
    given = {"x": torch.ones(3, K, 4), "keys": torch.arange(3)} | changes
    for warp in (module(), module(p=0.0), module().eval()):
        with pytest.raises(ConfigError, match=problem):
            warp(**given)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Jitter(), r"scale: is missing; give each feature's standard deviation over training bars"),
        (lambda: Jitter([1.0], candles=True), "scale: is of features; .*: leave it out"),
        (lambda: Jitter([[1.0]]), r"scale: is of shape \[1, 1\]; give one number a feature, \[D\]"),
        (lambda: Jitter([1.0, -2.0]), "scale: is -2 for feature 1; give finite standard deviations from 0"),
        (lambda: Jitter([math.nan, 1]), "scale: is nan for feature 0; give finite"),
        (lambda: Jitter("one"), "scale: 'one' is no array of numbers; give a tensor, or an array"),
        (lambda: Jitter([1.0], sigma=-0.1), r"jitter\.sigma: .*greater than or equal to 0, not -0\.1"),
        (lambda: Jitter([1.0], p=1.1), r"jitter\.p: .*less than or equal to 1, not 1\.1"),
        (
            lambda: Jitter([1.0])(torch.ones(2, 3, 4), torch.arange(2)),
            "x: has 4 features, but .* for 1; give",
        ),
        (lambda: MagnitudeWarp(sigma=2.0), r"magnitude_warp\.sigma: .*less than or equal to 1, not 2\.0"),
        (lambda: MagnitudeWarp(knots=1), r"magnitude_warp\.knots: .*greater than or equal to 2, not 1"),
        (lambda: TimeWarp(knots=4.0), r"time_warp\.knots: input should be a valid integer, not 4\.0"),
        (lambda: TimeWarp(sigma=math.nan), r"time_warp\.sigma: "),
        (
            lambda: MagnitudeWarp(candles=True)(torch.ones(2, 3, 5), torch.arange(2)),
            "x: has 5 columns; candles have 4: open, high, low, close",
        ),
        (
            lambda: Augmentation([1.0], [[0, 1], [0, 1]]),
            r"ranges: is of shape \[2, 2\]; give .* of 1 features",
        ),
        (
            lambda: Augmentation([1.0], [[1, 0]]),
            "ranges: is 1 to 0 for feature 0; give the lowest value, then",
        ),
        (lambda: Augmentation([1.0], [[math.nan, 0]]), "ranges: is nan to 0 for feature 0; give the lowest"),
        (lambda: Augmentation(None, [[0, 1]], candles=True), "ranges: are of features, .*; leave them out"),
        (
            lambda: Augmentation([1.0], config={"jiter": {}}),
            r"augmentation\.jiter: there is no such parameter",
        ),
    ],
)
def test_parameters_that_make_no_sense_are_refused(make, problem):
    with pytest.raises(ConfigError, match=problem):
        make()


# Jitter


def test_jitter_is_in_units_of_each_features_scale():
    scale = torch.tensor([1.0, 0.0, 100.0])
    x, keys = torch.randn(2000, K, 3), keys_of(2000)
    noise = (Jitter(scale, sigma=0.04, p=1.0)(x, keys).x - x).double()
    assert torch.equal(noise[:, :, 1], torch.zeros(2000, K).double())
    for feature in (0, 2):
        drawn = noise[:, :, feature] / scale[feature]
        assert kstest(drawn.ravel()[:20_000] / 0.04, "norm").pvalue > 1e-3
        assert drawn.std().item() == pytest.approx(0.04, rel=0.01)
        # Of each bar on its own.
        assert abs(float((drawn[:, 1:] * drawn[:, :-1]).mean()) / 0.04**2) < 0.02
    assert torch.equal(Jitter(scale.numpy())(x, keys).x, Jitter(scale.tolist())(x, keys).x)
    assert Jitter(scale).state_dict().keys() == {"scale"}


@given(st.integers(0, 2**32), st.integers(1, 60), st.sampled_from([0.04, 0.3, 1.0]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_jittered_candles_are_candles(seed, length, sigma, masked):
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


# Magnitude warp


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
    # Through four knots the logarithm is one cubic: fourth differences are rounding alone.
    assert curve.log().diff(n=4, dim=1).abs().max() < 1e-5
    x = torch.randn(50, K, 2)
    assert torch.equal(MagnitudeWarp(p=1.0)(x, keys[:50]).x, x * curve[:50].float())


@given(st.integers(0, 2**32), st.integers(1, 60), st.sampled_from([0.25, 1.0]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_magnitude_warped_candles_are_candles(seed, length, sigma, masked):
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


# Time warp


def check_time_warps(windows: int, seed: int, sigma: float, knots: int) -> None:
    """A marker is planted in the data: each bar holds its own number, so a warped bar tells where it is from."""
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
            # The bar of the result that is made of times nearest to the span's end.
            nearest = (marker - spans[:, end, None]).abs().argmin(1)
            error = (nearest - moved[:, end])[~without].abs()
            assert int(error.max()) <= 1
        # Against the same map turned around by NumPy, window by window.
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


def test_time_warps_are_smooth_and_as_strong_as_said():
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
def test_what_the_mask_hides_never_shows(seed, length, share):
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


def test_a_window_that_would_lose_its_last_bar_stays_with_its_span():
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
def test_short_windows(length):
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


# All three


def test_augmentation_is_its_parts_then_the_clip():
    x, keys = torch.randn(200, K, 3), keys_of(200)
    spans = torch.tensor([[20, 70]]).repeat(200, 1)
    valid = torch.arange(K).expand(200, K) >= 20
    ranges = torch.tensor([[-1.0, 1.0], [0.0, math.inf], [-math.inf, math.inf]])
    augmentation = Augmentation(torch.ones(3), ranges)
    batch = Augmented(x, spans, valid)
    for part in (Jitter(torch.ones(3)), MagnitudeWarp(), TimeWarp()):
        batch = part(batch.x, keys, batch.spans, batch.valid)
    result = augmentation(x, keys, spans, valid)
    for feature, (low, high) in enumerate(ranges.tolist()):
        assert torch.equal(result.x[..., feature], batch.x[..., feature].clamp(low, high))
    assert torch.equal(result.spans, batch.spans)
    assert torch.equal(result.valid, batch.valid)
    assert bool((result.x[..., 0].abs() <= 1).all())
    assert augmentation.eval()(x, keys, spans, valid).x is x
    again = pickle.loads(pickle.dumps(augmentation)).train()
    assert torch.equal(again(x, keys, spans, valid).x, result.x)
    assert "sigma=0.1, knots=4, p=0.3" in repr(augmentation)


def test_each_copy_and_epoch_has_a_draw_of_its_own():
    augmentation = Augmentation(torch.ones(4))
    assert augmentation.copies == 5
    x = torch.randn(1, K, 4).expand(1000, K, 4)
    keys = torch.cat(
        [window_keys(0, epoch, torch.arange(100), copy) for epoch in (0, 1) for copy in range(5)]
    )
    # But for those that no module chose, 0.1 · 0.4 · 0.7 of all.
    different = len(augmentation(x, keys).x.flatten(1).unique(dim=0)) - 1
    assert binomtest(different, 1000, 1 - 0.1 * 0.4 * 0.7).pvalue > 1e-4


def test_augmented_candles_are_candles():
    for seed in range(4):
        x = make_candles(5000, seed=seed)
        assert_candles(Augmentation(candles=True)(x, keys_of(5000, seed)).x)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_million_augmented_candles():
    augmentation = Augmentation(candles=True)
    for seed in range(200):
        assert_candles(augmentation(make_candles(5000, seed=seed % 4), keys_of(5000, seed)).x)


@pytest.mark.parametrize("layout", ["bars", "windows"])
def test_scales_and_ranges_are_those_of_training_bars(tmp_path, layout):
    for name, lengths in (("one", (300, 9, 150)), ("two", (90,))):
        build(tmp_path / name, lengths=lengths, extra=2, layout=layout, window_length=10).close()
    paths = [tmp_path / "one", tmp_path / "two"]
    dataset = FastWindowedDataset(paths, "train", stride=3, extra=("kept1",))
    bars: dict[tuple[int, int], np.ndarray] = {}
    x, _, valid = dataset.batch(range(len(dataset)))
    places = dataset.places(range(len(dataset)))
    for i, (store, row) in enumerate(zip(places.store.tolist(), places.row.tolist(), strict=True)):
        bars |= {(store, row + t): x[i, t].numpy() for t in range(10) if valid[i, t]}
    wanted = np.std(list(bars.values()), axis=0, dtype=np.float64)
    assert np.allclose(feature_scale(dataset), wanted, rtol=1e-6)
    ranges = feature_ranges(dataset)
    assert ranges.tolist() == [[0.0, 1.0]] * 3 + [[-math.inf, math.inf]]
    augmented = Augmentation(feature_scale(dataset), ranges)(x, keys_of(len(x)), None, valid).x
    assert bool(((augmented[..., :3] >= 0) & (augmented[..., :3] <= 1)).all())
    with pytest.raises(ConfigError, match=r"dataset: is of val, whose .*; give the dataset of train"):
        feature_scale(FastWindowedDataset(paths, "val"))


def test_scales_are_exact_far_from_zero_and_over_many_blocks(monkeypatch, tmp_path):
    build(tmp_path / "store", lengths=(3000,)).close()
    dataset = FastWindowedDataset(tmp_path / "store", "train")
    pieces = [
        np.random.default_rng(i).normal(1e6, 1, (n, 3)).astype(np.float32) for i, n in enumerate((0, 1, 700))
    ]
    monkeypatch.setattr("moola.augment.scales.training_bars", lambda _: iter(pieces))
    monkeypatch.setattr("moola.augment.scales._BLOCK", 64)
    wanted = np.concatenate(pieces).astype(np.float64).std(axis=0)
    assert np.allclose(feature_scale(dataset), wanted, rtol=1e-6)
    monkeypatch.setattr("moola.augment.scales.training_bars", lambda _: iter(pieces[:1]))
    with pytest.raises(ConfigError, match="dataset: has no valid bar; build with more bars"):
        feature_scale(dataset)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", AugmentationConfig()),
        (
            "copies: 2\njitter: {sigma: 1e-2}\ntime_warp: {knots: 6, p: 0}\n",
            AugmentationConfig(copies=2, jitter={"sigma": 0.01}, time_warp={"knots": 6, "p": 0.0}),
        ),
    ],
)
def test_configuration_is_a_section_of_yaml(tmp_path, text, expected):
    path = tmp_path / "model.yaml"
    path.write_text("augmentation:\n" + "".join(f"  {line}\n" for line in text.splitlines()))
    config = parse_config(AugmentationConfig, read_yaml(path)["augmentation"], "augmentation")
    assert config == expected
    augmentation = Augmentation([1.0], config=config)
    assert augmentation.copies == expected.copies
    for part in ("jitter", "magnitude_warp", "time_warp"):
        module, section = getattr(augmentation, part), getattr(expected, part)
        assert {name: getattr(module, name) for name in type(section).model_fields} == section.model_dump()


def test_defaults_of_modules_are_those_of_the_configuration():
    config = AugmentationConfig()
    assert config.model_dump() == {
        "copies": 5,
        "jitter": {"sigma": 0.04, "p": 0.9},
        "magnitude_warp": {"sigma": 0.25, "knots": 4, "p": 0.6},
        "time_warp": {"sigma": 0.1, "knots": 4, "p": 0.3},
    }
    for module, section in (
        (Jitter([1.0]), config.jitter),
        (MagnitudeWarp(), config.magnitude_warp),
        (TimeWarp(), config.time_warp),
    ):
        assert {name: getattr(module, name) for name in type(section).model_fields} == section.model_dump()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"copies": 0}, "augmentation.copies: input should be greater than or equal to 1, not 0"),
        ({"copies": True}, "augmentation.copies: input should be a valid integer, not True"),
        (
            {"time_warp": {"sigma": "0.1"}},
            "augmentation.time_warp.sigma: input should be a valid number, not '0.1'",
        ),
        (
            {"magnitude_warp": {"nots": 4}},
            "augmentation.magnitude_warp.nots: there is no such parameter; the parameters are sigma, knots, p",
        ),
    ],
)
def test_configuration_errors_name_the_key(given, problem):
    with pytest.raises(ConfigError) as caught:
        parse_config(AugmentationConfig, given, "augmentation")
    assert str(caught.value) == problem


def test_configuration_needs_no_torch():
    code = "import sys; from moola.augment import AugmentationConfig as C; C(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
