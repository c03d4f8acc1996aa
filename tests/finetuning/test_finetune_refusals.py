"""Inputs that fine-tuning and prediction refuse."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from finetuned import QUIET, saved

import moola
from moola.errors import (
    ConfigError,
    FeatureMismatchError,
    LabelError,
    RunError,
    SplitError,
    WeightsError,
)
from moola.labels import LabelledWindows, read_labels
from moola.models.weights import load_weights, save_weights

pytestmark = pytest.mark.xdist_group("finetune_run")


def test_bars_that_do_not_fit_are_refused(run: Path, market: Path, tmp_path: Path) -> None:
    other = moola.build_features(
        market / "bars.parquet", tmp_path / "ohlc4", feature_set="ohlc4", stamp="open"
    )
    with pytest.raises(FeatureMismatchError, match="has the features ohlc4, the weights were trained on rel"):
        moola.predict(run, other, tmp_path / "p.parquet")
    assert not (tmp_path / "p.parquet").exists()
    parameters = moola.build_features(
        market / "bars.parquet", tmp_path / "k", stamp="open", reset_on_gap="30m", config={"zigzag_k": 2.0}
    )
    with pytest.raises(
        FeatureMismatchError, match=r"built with zigzag_k 2.0, the weights were trained with zig"
    ):
        moola.predict(run, parameters)


def test_a_directory_without_a_fine_tuned_run_is_refused(run: Path, market: Path, tmp_path: Path) -> None:
    store = market / "store"
    with pytest.raises(
        RunError, match=r"is a file, and prediction also needs the run's record of seen bars. Give the dir"
    ):
        moola.predict(run / "best.safetensors", store)
    with pytest.raises(WeightsError, match=r"there is no such file. Give a run directory"):
        moola.predict(tmp_path, store)
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "learned.json").unlink()
    with pytest.raises(RunError, match=r"there is no learned.json. Give the directory"):
        moola.predict(tmp_path / "run", store)
    weights = load_weights(run / "best.safetensors")
    record = weights.record | {"more": {}}
    save_weights(tmp_path / "run" / "best.safetensors", weights.tensors, record)
    problem = "does not record its classes, or the temperature that calibrates them. Fine-tune it with moola finetune"
    with pytest.raises(WeightsError, match=problem):
        moola.predict(tmp_path / "run", store)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"split": "test", "from_": "2020-06-10"}, "split: cannot be combined with --from or --to; give one"),
        ({"from_": "yesterday"}, "from: 'yesterday' is no time; write 2020-06-10, or 2020-06-10T14:30:00Z"),
        ({"to": "2020-06-10T14:30"}, "to: '2020-06-10T14:30' has no offset; write Z after it for UTC"),
        (
            {"data": "bars.parquet"},
            "data: cannot be combined with --feature-dir; give bars or a store, not both",
        ),
        (
            {"feature_dir": None},
            "feature_dir: is missing; give a store that moola build-features made, or --da",
        ),
        ({"batch_size": 0}, "batch_size: 0 is out of range"),
        ({"split": "tset"}, "split: 'tset' is not a split; give train, val, test or all"),
    ],
)
def test_wrong_requests_are_refused(run: Path, market: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        moola.predict(run, **{"feature_dir": market / "store"} | given)
    assert message in str(caught.value)


def test_unusable_labels_are_refused(
    market: Path, labels: LabelledWindows, store: moola.FeatureStore, tmp_path: Path
) -> None:
    def attempt(given: Any, where: Any = market / "store", **options: Any) -> None:
        moola.finetune(where, given, tmp_path / "run", **QUIET | options)

    with pytest.raises(ConfigError, match=r"labels: 'none' is the only class; label windows of at least two"):
        attempt(replace(labels, classes=("none",), y=np.zeros_like(labels.y)))
    with pytest.raises(LabelError, match=r"windows? for 50 folds"):
        attempt(labels, folds=50)
    forms = (labels, market / "labels.parquet", pq.read_table(market / "labels.parquet").to_pandas())
    for given in forms:
        with pytest.raises(ConfigError, match=r"validation_share: 0.7 is no share; give 0, or up to 0.5"):
            attempt(given, validation_share=0.7)
    with pytest.raises(TypeError, match=r"labels must be a path or an object with __arrow.*, not a list"):
        attempt([1, 2])
    with pytest.raises(
        ConfigError, match="window_length: is 20, and the windows have 105 bars; import the labels"
    ):
        attempt(labels, window_length=20)
    with_volume = read_labels(market / "labels.parquet", store, extra=("volume",))
    for given, names, kept, theirs in (
        (labels, ("volume",), "volume", "none"),
        (with_volume, (), "none", "volume"),
        (saved(with_volume, tmp_path / "volume.safetensors"), ("volume", "x"), "volume, x", "volume"),
    ):
        problem = (
            f"extra: is {kept}, and the kept columns of the windows are {theirs}; import the labels again"
        )
        with pytest.raises(ConfigError, match=problem):
            attempt(given, extra=names)
    missing = "feature_dir: is missing; give the store that the labels refer to"
    for given in forms:
        with pytest.raises(ConfigError, match=missing):
            attempt(given, None)
    with pytest.raises(ConfigError, match=r"import pre-cut windows first, with moola import-labels --raw"):
        attempt(market / "labels.parquet", None)
    for whose, what in (("f" * 32, "labels of another store"), ("", "pre-cut windows")):
        with pytest.raises(ConfigError, match=f"is not the store of these labels: they are {what}; give"):
            attempt(replace(labels, store_id=whose))
    with pytest.raises(ConfigError, match="feature_dir: is 2 stores, and labels refer to one; give that one"):
        attempt(labels, [market / "store", market / "store"])
    one_place = replace(labels, groups=np.zeros_like(labels.groups))
    with pytest.raises(ConfigError, match="folds: 5 are more than the 1 groups of windows that share bars"):
        attempt(one_place)
    few = labels.take(np.concatenate([np.flatnonzero(labels.y == code)[:4] for code in range(3)]))
    with pytest.raises(LabelError, match="4 windows for 5 folds"):
        attempt(few, folds=5)
    # All windows of a class overlap: a fold that tests them has none of them for training.
    groups = np.arange(len(labels))
    groups[labels.y == 1] = len(labels)
    with pytest.raises(
        SplitError, match=r"has no window of class .* to train on: windows that share bars stay"
    ):
        attempt(replace(labels, groups=groups))


def test_an_encoder_of_other_features_is_refused(
    run: Path, market: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    other = replace(labels, feature_set="ohlc4", store_id="")
    names = ("open", "high", "low", "close")
    other = replace(other, X=labels.X[:, :, :4].copy(), feature_names=names)
    with pytest.raises(FeatureMismatchError, match="the labels has the features ohlc4, the weights were"):
        moola.finetune(None, other, tmp_path / "run", encoder=run, device="cpu")


def test_thawing_without_frozen_epochs_is_refused(
    run: Path, market: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    def attempt(**options: Any) -> None:
        moola.finetune(market / "store", labels, tmp_path / "run", device="cpu", **options)

    for freeze in ("none", "always"):
        problem = "unfreeze_every: applies to an encoder that is frozen for some epochs"
        with pytest.raises(ConfigError, match=f"{problem}, and freeze is {freeze}; give --freeze EPOCHS"):
            attempt(encoder=run, freeze=freeze, unfreeze_every=2)
    every = ["training.finetune.unfreeze_every=2"]
    with pytest.raises(ConfigError, match="freeze is none"):
        attempt(encoder=run, settings=every)
    # Wherever each of the two is set. Without an encoder nothing is frozen, whatever is set.
    for options in ({"encoder": run, "freeze": 1}, {"freeze": "always"}, {}):
        with pytest.raises(ConfigError, match="validation_share: 2 is no share"):
            attempt(settings=every, validation_share=2, **options)
