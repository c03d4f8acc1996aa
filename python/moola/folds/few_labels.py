"""Folds and a validation share that few labels allow, where the caller did not ask for certain ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moola.errors import ConfigError, LabelError, SplitError
from moola.folds.dealing import StorePath, TrainTest, purged_folds
from moola.folds.validation_share import part_by_share
from moola.labels.windows import LabelledWindows
from moola.settings.arrays import Numbers

__all__ = ["FOLDS", "VALIDATION_SHARE", "fitting_folds", "fitting_share"]

FOLDS = 5
"""The usual number of folds."""

VALIDATION_SHARE = 0.2
"""The usual share of validation windows."""

_SMALLER_SHARES = (0.15, 0.1, 0.05)


def fitting_folds(
    windows: LabelledWindows,
    *,
    seed: int,
    repeats: int = 1,
    embargo: int = 0,
    store: StorePath | None = None,
) -> tuple[int, list[str]]:
    """The largest number of folds up to `FOLDS` that the rarest class allows, and a line that says so.

    The line is missing where the usual number fits. Raises what :func:`purged_folds` raises for `FOLDS` if not even two
    folds fit.
    """

    def deal(folds: int) -> None:
        for repeat in range(repeats):
            purged_folds(windows, folds, seed=seed, repeat=repeat, embargo=embargo, store=store)

    counts = np.bincount(windows.y, minlength=len(windows.classes))
    rarest = int(np.argmin(counts))
    try:
        deal(FOLDS)
    except (ConfigError, LabelError, SplitError):
        for folds in range(min(FOLDS - 1, int(counts[rarest])), 1, -1):
            try:
                deal(folds)
            except (ConfigError, LabelError, SplitError):
                continue
            places = len(np.unique(windows.groups[windows.y == rarest]))
            many = "1 window" if counts[rarest] == 1 else f"{counts[rarest]:,} windows"
            where = "" if places == counts[rarest] else f" in {places:,} groups that share no bar"
            return folds, [
                f"{folds} folds instead of {FOLDS}: the rarest class, {windows.classes[rarest]!r}, has {many}{where}"
            ]
        raise
    return FOLDS, []


def fitting_share(
    windows: LabelledWindows,
    groups: Numbers,
    parts: Sequence[TrainTest],
    *,
    seed: int,
) -> tuple[float, list[str]]:
    """The largest share of validation windows up to `VALIDATION_SHARE` that the rarest class allows, and a line.

    Args:
        windows: Labelled windows.
        groups: `[n]`, the group of each window.
        parts: (train, test) of each fold. The training windows of each, and all windows, are split.
        seed: As for :func:`part_by_share`.
    """
    everything = np.arange(len(windows))

    def fits(share: float) -> bool:
        try:
            for some in [*(train for train, _ in parts), everything]:
                part_by_share(windows.y[some], groups[some], share, seed)
        except SplitError:
            return False
        return True

    if fits(VALIDATION_SHARE):
        return VALIDATION_SHARE, []
    # The class that is in the fewest groups of some fold's training windows.
    places = [
        min(len(np.unique(groups[train[windows.y[train] == code]])) for train, _ in parts)
        for code in range(len(windows.classes))
    ]
    rarest = int(np.argmin(places))
    why = f"the rarest class, {windows.classes[rarest]!r}, is in {places[rarest]} of the groups that a fold trains on"
    share = next((share for share in _SMALLER_SHARES if fits(share)), 0.0)
    if share:
        return share, [f"{share:.0%} validation windows instead of {VALIDATION_SHARE:.0%}: {why}"]
    return 0.0, [
        f"no validation windows instead of {VALIDATION_SHARE:.0%}, so training lasts all epochs: {why}"
    ]
