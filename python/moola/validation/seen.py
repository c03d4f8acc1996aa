"""Which labelled windows an encoder has seen before any label of theirs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moola.errors import ConfigError
from moola.labels.windows import LabelledWindows
from moola.validation.folds import StorePath, open_labelled_store

__all__ = ["seen_windows"]


def seen_windows(
    encoder: str | os.PathLike[str], windows: LabelledWindows, store: StorePath | None
) -> NDArray[np.bool_]:
    """`[n]`: of which windows the encoder was pre-trained, or selected, on bars.

    Args:
        encoder: The run that pre-trained it, or a file in its directory.
        windows: Labelled in a store.
        store: That store, which knows when windows begin.

    Raises `ConfigError` for windows that were cut beforehand, of which that cannot be known, and where the store is
    missing; `RunError` for a run that does not say what it has learned from.
    """
    from moola.training.runs import read_learned

    if not windows.store_id:
        raise ConfigError(
            "encoder",
            "may have been pre-trained on bars of these windows: they were cut beforehand, and nobody knows from when "
            "they are. Label them by reference to a store",
        )
    if store is None:
        raise ConfigError(
            "store", "is missing; it says when windows begin, and so which the encoder was pre-trained on"
        )
    path = Path(encoder)
    times = open_labelled_store(windows, store).timestamps
    learned = read_learned(path if path.is_dir() else path.parent)
    return learned.seen(windows.symbols.tolist(), times[windows.label_starts], times[windows.label_ends])
