"""All three augmentations together, their scales and their configuration."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from augmented import K, assert_candles, keys_of, make_candles
from scipy.stats import binomtest
from tiny_store import build

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
from moola.errors import ConfigError
from moola.settings.sections import parse_config
from moola.settings.yaml import read_yaml


def test_augmentation_applies_its_parts_and_then_clips():
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


def test_each_copy_and_epoch_has_its_own_draw():
    augmentation = Augmentation(torch.ones(4))
    assert augmentation.copies == 5
    x = torch.randn(1, K, 4).expand(1000, K, 4)
    keys = torch.cat(
        [window_keys(0, epoch, torch.arange(100), copy) for epoch in (0, 1) for copy in range(5)]
    )
    # Except those that no module chose, 0.1 · 0.4 · 0.7 of all.
    different = len(augmentation(x, keys).x.flatten(1).unique(dim=0)) - 1
    assert binomtest(different, 1000, 1 - 0.1 * 0.4 * 0.7).pvalue > 1e-4


def test_augmented_candles_stay_valid_candles():
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
    with pytest.raises(
        ConfigError, match=r"dataset: is of val, but the scale must .*; give the dataset of train"
    ):
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
