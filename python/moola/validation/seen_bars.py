"""Which labelled windows an encoder has seen in pre-training."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moola.errors import ConfigError
from moola.files.messages import teller
from moola.folds.dealing import StorePath, open_labelled_store
from moola.labels.windows import LabelledWindows
from moola.runs.seen_bars import MAY_HAVE_SEEN_ALL

__all__ = ["seen_windows"]


def seen_windows(
    encoder: str | os.PathLike[str],
    windows: LabelledWindows,
    store: StorePath | None = None,
    *,
    say: Callable[[str], None] | None = None,
) -> NDArray[np.bool_]:
    """`[n]`: whether the encoder is known to have been pre-trained, or selected, on bars of each window.

    Args:
        encoder: The run that pre-trained it, or a file in its directory.
        windows: Windows that refer to a store, or pre-cut windows.
        store: The store, which gives the windows' times. Pre-cut windows may contain their own times.
        say: Called with each line that a person should read; the logger `moola` at INFO if not given.

    Raises `ConfigError` if the store is missing, and `RunError` for a run that does not record its training bars.
    """
    say = teller(say)
    from moola.runs.directory import read_seen_bars

    path = Path(encoder)
    seen_bars = read_seen_bars(path if path.is_dir() else path.parent)
    if windows.store_id:
        if store is None:
            raise ConfigError(
                "store",
                "is missing; it gives the windows' times, and so which the encoder was pre-trained on",
            )
        times = open_labelled_store(windows, store).timestamps
        first, last = times[windows.label_starts], times[windows.label_ends]
    elif windows.first_times is None or windows.times is None:
        say(f"the times of these windows are unknown: {MAY_HAVE_SEEN_ALL}")
        return np.zeros(len(windows), np.bool_)
    else:
        first, last = windows.first_times, windows.times
    symbols = windows.symbols.tolist()
    for note in seen_bars.notes(symbols, first, last):
        say(note)
    return seen_bars.seen(symbols, first, last)
