"""What fine-tuning starts from: configuration, extra columns and labelled windows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moola.data.stores import StorePath, open_stores
from moola.errors import ConfigError
from moola.labels.windows import LabelledWindows
from moola.models.encoder import Encoder
from moola.settings.models import Config, load_config
from moola.settings.sections import parse_config
from moola.settings.training import FinetuneConfig
from moola.store.reader import FeatureStore

__all__ = ["config_of", "extra_columns", "labelled_windows"]


def config_of(
    model: str | os.PathLike[str] | Mapping[str, Any] | None,
    start: Encoder | None,
    settings: Iterable[str],
    training: Mapping[str, Any],
    classes: int,
) -> Config:
    if model is None:
        origin = None if start is None else start.origin
        model = "jade_compact" if origin is None else {"model": origin.model.model_dump()}
    config = load_config(model, [*settings, f"model.architecture.num_classes={max(classes, 2)}"])
    chosen = parse_config(FinetuneConfig, {**config.training.finetune.model_dump(), **training}, "")
    if start is None:
        # There are no pre-trained weights to freeze.
        chosen = chosen.model_copy(update={"freeze": "none"})
    elif chosen.unfreeze_every and not isinstance(chosen.freeze, int):
        problem = f"applies to an encoder that is frozen for some epochs, and freeze is {chosen.freeze}"
        raise ConfigError("unfreeze_every", f"{problem}; give --freeze EPOCHS (freeze=) too, or leave it out")
    return config.model_copy(update={"training": config.training.model_copy(update={"finetune": chosen})})


def extra_columns(extra: tuple[str, ...] | None, start: Encoder | None) -> tuple[str, ...]:
    if extra is not None:
        return tuple(extra)
    return () if start is None or start.origin is None else start.origin.features.extra


def labelled_windows(
    feature_dir: StorePath | None,
    labels: object,
    window_length: int | None,
    extra: tuple[str, ...],
) -> tuple[FeatureStore | None, LabelledWindows]:
    """The store (None without one) and the windows of positive weight.

    Raises `ConfigError` for a missing store, several stores or another store than the labels refer to, and for a
    `window_length` that the windows do not have; and what reading labels and opening a store raise.
    """
    stores = [] if feature_dir is None else open_stores(feature_dir)
    if len(stores) > 1:
        raise ConfigError("feature_dir", f"is {len(stores)} stores, and labels refer to one; give that one")
    store = stores[0] if stores else None
    if isinstance(labels, str | os.PathLike) and Path(labels).suffix == ".safetensors":
        labels = LabelledWindows.load(labels)
    if not isinstance(labels, LabelledWindows):
        if store is None:
            problem = "is missing; give the store that the labels refer to"
            cut = "import pre-cut windows first, with moola import-labels --raw"
            raise ConfigError("feature_dir", f"{problem}; {cut}")
        from moola.labels.references import read_labels

        windows = read_labels(labels, store, window_length=window_length, extra=extra)
    else:
        windows = labels
        if window_length not in (None, windows.window_length):
            problem = f"is {window_length}, and the windows have {windows.window_length} bars"
            raise ConfigError("window_length", f"{problem}; import the labels again, with another length")
        if store is None and windows.store_id:
            raise ConfigError("feature_dir", "is missing; give the store that the labels refer to")
        if store is not None and windows.store_id != store.id:
            what = "labels of another store" if windows.store_id else "pre-cut windows"
            raise ConfigError(
                "feature_dir",
                f"{store.path} is not the store of these labels: they are {what}; "
                "give the store they were imported with, or import them again",
            )
    counts = windows.weight > 0
    return store, windows if counts.all() else windows.take(counts)
