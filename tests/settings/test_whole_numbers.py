"""Integers that users give: NumPy's integers are accepted everywhere, booleans and fractions nowhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builds import SMALL, table
from labelled import make_windows

from moola.bars import make_bars
from moola.data import FastWindowedDataset
from moola.errors import ConfigError
from moola.estimators.boosted_trees import PooledTrees
from moola.estimators.convolutional import TemporalConvolution
from moola.estimators.rocket import RandomKernels
from moola.features import compute_features
from moola.folds import CombinatorialPurgedKFold, PurgedKFold, WalkForward
from moola.labels.references import read_labels
from moola.labels.refusals import check_folds
from moola.settings.durations import parse_duration
from moola.settings.features import FeatureConfig
from moola.settings.models import load_config
from moola.settings.whole_numbers import whole_number
from moola.splits import SplitOptions
from moola.store import FeatureStore, build_features, verify_features


@pytest.mark.parametrize("kind", [int, np.int8, np.uint8, np.int64, np.uint64])
def test_integers_of_every_kind_become_ints(kind: type) -> None:
    number = whole_number("n", kind(7), 0)
    assert number == 7
    assert type(number) is int


@pytest.mark.parametrize(
    ("value", "of", "message"),
    [
        (True, None, "n: True is not a whole number; give one from 1 on"),
        (np.True_, None, "n: np.True_ is not a whole number; give one from 1 on"),
        (1.0, None, "n: 1.0 is not a whole number; give one from 1 on"),
        ("1", None, "n: '1' is not a whole number; give one from 1 on"),
        (None, None, "n: None is not a whole number; give one from 1 on"),
        (0, None, "n: 0 is out of range; give a whole number from 1 to 1,000"),
        (np.int64(0), None, "n: 0 is out of range; give a whole number from 1 to 1,000"),
        (1_001, "bars", "n: 1001 is out of range; give a whole number from 1 to 1,000"),
        (np.int64(0), "bars", "n: 0 is not a number of bars; give 1 or more"),
        (2.5, "bars", "n: 2.5 is not a number of bars; give 1 or more"),
    ],
)
def test_other_types_are_refused(value: object, of: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        whole_number("n", value, 1, 1_000, of=of)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_features(table(), tmp_path_factory.mktemp("whole") / "store", **SMALL).path


def _splitter(kind: Callable[..., Any], **options: int) -> list[Any]:
    return list(kind(np.arange(0, 400, 10), np.arange(9, 409, 10), **options).split())


_WINDOWS = make_windows(n=30)

USES: dict[str, Callable[[Any, Path, Path], object]] = {
    "make_bars": lambda n, folder, _: make_bars(folder / "a.csv", n(50), seed=n(3), symbols=n(2)).bars,
    "build_features": lambda n, folder, _: (
        build_features(
            table(), folder / "s", window_length=n(20), config={"warmup_bars": n(10)}, embargo=n(2)
        ).window_length
    ),
    "verify_features": lambda n, _, store: verify_features(store, samples=n(3)).ok,
    "store.window": lambda n, _, store: FeatureStore.open(store).window(n(4), n(8)).tolist(),
    "SplitOptions": lambda n, *_: SplitOptions(embargo=n(4)),
    "parse_duration": lambda n, *_: parse_duration(n(90)),
    "FeatureConfig": lambda n, *_: FeatureConfig(atr_period=n(5)).model_dump(),
    "compute_features": lambda n, *_: compute_features(
        *(table()[name].to_numpy() for name in ("open", "high", "low", "close")), config={"atr_period": n(5)}
    ).tolist(),
    "load_config": lambda n, *_: load_config(
        {
            "model": {"architecture": {"hidden_size": n(8)}},
            "training": {"pretrain": {"epochs": n(3)}, "finetune": {"freeze": n(2)}},
            "augmentation": {"copies": n(4), "jitter": {"sigma": n(1)}},
        }
    ).model_dump(),
    "FastWindowedDataset": lambda n, _, store: len(
        FastWindowedDataset(store, split="train", stride=n(3), window_length=n(15), seed=n(1))
    ),
    "WalkForward": lambda n, *_: _splitter(WalkForward, n_splits=n(3), train_size=n(200), embargo=n(5)),
    "PurgedKFold": lambda n, *_: _splitter(PurgedKFold, n_splits=n(3), embargo=n(5)),
    "CombinatorialPurgedKFold": lambda n, *_: _splitter(
        CombinatorialPurgedKFold, n_folds=n(4), n_test_folds=n(2)
    ),
    "check_folds": lambda n, *_: check_folds([0, 1, 0, 1], ["a", "b"], n(2)),
    "RandomKernels": lambda n, *_: (
        RandomKernels(n(20), seed=n(1)).fit(_WINDOWS.X, _WINDOWS.y).predict_proba(_WINDOWS.X).tolist()
    ),
    "TemporalConvolution": lambda n, *_: (
        TemporalConvolution(channels=n(4), blocks=n(1), epochs=n(1), batch_size=n(8), seed=n(1))
        .fit(_WINDOWS.X, _WINDOWS.y)
        .predict_proba(_WINDOWS.X)
        .tolist()
    ),
    "PooledTrees": lambda n, *_: (
        PooledTrees(n(5), leaves=n(3), seed=n(1))
        .fit(_WINDOWS.X, _WINDOWS.y)
        .predict_proba(_WINDOWS.X)
        .tolist()
    ),
}


@pytest.mark.parametrize("use", USES)
def test_numpy_integers_work_like_ints(use: str, store: Path, tmp_path: Path) -> None:
    found = []
    for kind in (int, np.int64):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        found.append(USES[use](kind, folder, store))
    assert repr(found[1]) == repr(found[0])


def test_numpy_integers_work_as_window_lengths(store: Path, tmp_path: Path) -> None:
    opened = FeatureStore.open(store)
    last = [int(opened.timestamps[row]) for row in (60, 120, 180, 240)]
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "window_end,class\n"
        + "".join(f"{np.datetime64(t, 'ns')}Z,{'ab'[i % 2]}\n" for i, t in enumerate(last))
    )
    plain = read_labels(labels, store, window_length=30)
    numpy = read_labels(labels, store, window_length=np.int64(30))
    assert np.array_equal(numpy.X, plain.X)
    assert numpy.window_length == 30
