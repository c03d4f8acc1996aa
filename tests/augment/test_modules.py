"""Properties of every augmentation module: equal bits, devices, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from augmented import K, keys_of, make_candles
from scipy.stats import binomtest

from moola.augment import Augmentation, Augmented, Jitter, MagnitudeWarp, TimeWarp, window_keys
from moola.augment.draws import chosen
from moola.errors import ConfigError


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


def test_augmentation_without_effect_keeps_every_bit(module):
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


def test_p_is_a_share_of_windows_and_the_others_are_unchanged(module):
    x, keys = make_candles(2000), keys_of(2000)
    for p in (0.2, 1.0):
        same = (module(p=p)(x, keys).x == x).flatten(1).all(1)
        assert binomtest(int((~same).sum()), len(x), p).pvalue > 1e-4
        # The chosen windows depend only on the key, and not on the strength of the warp.
        assert torch.equal(same, (module(p=p, sigma=0.5)(x, keys).x == x).flatten(1).all(1))


def test_inputs_are_not_altered(module):
    x, keys = make_candles(50), keys_of(50)
    spans, valid = torch.tensor([[20, 70]]).repeat(50, 1), torch.ones((50, K), dtype=torch.bool)
    given = (x, keys, spans, valid)
    kept = [tensor.clone() for tensor in given]
    result = module(p=1.0)(*given)
    assert all(torch.equal(a, b) for a, b in zip(given, kept, strict=True))
    assert not torch.equal(result.x, x)
    assert result.x.dtype == x.dtype
    # The caller's memory is not returned as new.
    assert result.x.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_floating_types_and_strides_are_accepted(module, dtype):
    x, keys = make_candles(30), keys_of(30)
    warp = module(p=1.0)
    expected = warp(x, keys).x
    result = warp(x.to(dtype), keys).x
    assert result.dtype == dtype
    assert torch.allclose(result.float(), expected, rtol=1e-5 if dtype == torch.float64 else 0.02)
    assert torch.equal(warp(x.transpose(0, 1).contiguous().transpose(0, 1), keys).x, expected)


def test_augmentation_does_not_wait_for_the_device(module):
    # Tensors without numbers: reading one, or a shape that depends on them, is an error.
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
        ({"x": torch.ones(3, K)}, r"x: is torch.float32 of shape \[3, 105\]; give windows \[B, K, D\]"),
        ({"x": torch.ones((3, K, 4), dtype=torch.int64)}, "x: is torch.int64 of shape .* of a floating type"),
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
        (lambda: Jitter([1.0], candles=True), "scale: is for features; .*: leave it out"),
        (lambda: Jitter([[1.0]]), r"scale: is of shape \[1, 1\]; give one number for each feature, \[D\]"),
        (
            lambda: Jitter([1.0, -2.0]),
            "scale: is -2 for feature 1; give finite standard deviations of 0 or more",
        ),
        (lambda: Jitter([math.nan, 1]), "scale: is nan for feature 0; give finite"),
        (lambda: Jitter("one"), "scale: 'one' is not an array of numbers; give a tensor or an array"),
        (lambda: Jitter([1.0], sigma=-0.1), r"jitter\.sigma: .*greater than or equal to 0, not -0\.1"),
        (lambda: Jitter([1.0], p=1.1), r"jitter\.p: .*less than or equal to 1, not 1\.1"),
        (
            lambda: Jitter([1.0])(torch.ones(2, 3, 4), torch.arange(2)),
            "x: has 4 features, and .* for 1; give",
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
        (lambda: Augmentation(None, [[0, 1]], candles=True), "ranges: are for features, .*; leave them out"),
        (
            lambda: Augmentation([1.0], config={"jiter": {}}),
            r"augmentation\.jiter: there is no such parameter",
        ),
    ],
)
def test_parameters_that_make_no_sense_are_refused(make, problem):
    with pytest.raises(ConfigError, match=problem):
        make()
