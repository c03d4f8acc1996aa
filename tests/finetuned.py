"""Settings and labelled examples for the tests of fine-tuned runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

import moola
from moola.cli import app
from moola.labels import LabelledWindows
from moola.labels.overlaps import group_overlaps
from moola.settings.models import load_config
from moola.settings.training import FinetuneConfig
from moola.training import pretrain
from moola.training.examples import Examples
from moola.training.recipe import Recipe

MINUTE = 60_000_000_000


# The first five days: a prediction of all 43 would take longer.
TO = "2020-06-14"


TINY: dict[str, Any] = {
    "model": {"name": "tiny", "architecture": {"hidden_size": 8, "num_layers": 1}},
    "training": {"finetune": {"epochs": 3, "lr": 0.01}},
    "augmentation": {"copies": 1},
}


QUIET: dict[str, Any] = {"model": TINY, "device": "cpu", "permutations": 0, "say": lambda line: None}


SHUFFLED = QUIET | {"permutations": 2}


CPU = torch.device("cpu")


def saved(windows: LabelledWindows, path: Path) -> Path:
    windows.save(path)
    return path


def nanoseconds(table: pa.Table, name: str) -> np.ndarray:
    return pc.fill_null(table[name].cast(pa.int64()), -1).to_numpy()


def examples(labels: LabelledWindows) -> Examples:
    return Examples(labels.X, labels.valid_mask, labels.y, labels.spans, labels.weight)


def blocks_of(labels: LabelledWindows, store: moola.FeatureStore) -> np.ndarray:
    return group_overlaps(store.timestamps[labels.starts], store.timestamps[labels.ends])


def recipe(**given: Any) -> Recipe:
    config = load_config(TINY, ["model.architecture.num_classes=3"])
    how = FinetuneConfig.model_validate({"epochs": 2, "lr": 0.01, "freeze": "none"})
    training = config.training.model_copy(update={"finetune": how})
    whole = Recipe(config.model_copy(update={"training": training}), None, CPU, 17, 0.2, 0)
    return whole._replace(**given)


def pretrained(store: moola.FeatureStore, path: Path) -> Path:
    pretrain(
        store,
        path,
        model={"model": TINY["model"]},
        epochs=1,
        batch_size=16,
        windows_per_epoch=32,
        device="cpu",
        say=lambda line: None,
    )
    return path


FROM_ENCODER = {name: value for name, value in SHUFFLED.items() if name != "model"} | {"epochs": 2}


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        app([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code
