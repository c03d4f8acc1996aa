"""Checks of the arguments of members: windows, masks, labels and weights."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moola.errors import ConfigError
from moola.settings.arrays import Numbers

__all__ = ["Standardiser", "check_training", "check_windows"]

Windows: TypeAlias = NDArray[np.float32]
Flags: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]


def check_windows(
    X: ArrayLike, valid_mask: ArrayLike | None, width: int | None = None
) -> tuple[Windows, Flags]:
    """Checks windows. Returns them as `[n, K, D]` float32 with 0 at hidden bars, and the mask `[n, K]`.

    Args:
        X: `[n, K, D]`, or `[n, K]` of one feature; finite at visible bars.
        valid_mask: `[n, K]` bool, the visible bars; all if not given.
        width: D of the windows that the model was fitted on; None for any.

    Raises `ConfigError`, naming the argument.
    """
    x = np.asarray(X)
    x = x[:, :, None] if x.ndim == 2 else x
    if x.ndim != 3 or not x.size:
        raise ConfigError(
            "X", f"has the shape {x.shape}; give windows as [n, K, D], or [n, K] of one feature"
        )
    if width is not None and x.shape[2] != width:
        raise ConfigError(
            "X",
            f"has {x.shape[2]} features, the model was fitted on {width}; give the same features, in the same order",
        )
    valid = np.ones(x.shape[:2], np.bool_) if valid_mask is None else np.asarray(valid_mask)
    if valid.shape != x.shape[:2] or valid.dtype != np.bool_:
        raise ConfigError(
            "valid_mask",
            f"is {valid.dtype} of shape {valid.shape}; give True or False for each bar of X, {list(x.shape[:2])}",
        )
    if not (some := valid.any(axis=1)).all():
        raise ConfigError("valid_mask", f"leaves window {int(np.argmin(some))} no bar; leave that window out")
    shown = np.where(valid[:, :, None], x, 0).astype(np.float32)
    if not (finite := np.isfinite(shown).all(axis=(1, 2))).all():
        raise ConfigError(
            "X",
            f"has a NaN or infinite value in window {int(np.argmin(finite))}; give finite values, or hide the bar "
            "with valid_mask",
        )
    return shown, valid


def check_training(
    y: ArrayLike, sample_weight: ArrayLike | None, n: int
) -> tuple[NDArray[Any], Numbers, Floats]:
    """Checks labels and weights of n windows. Returns the classes `[C]`, class codes `[n]` and weights `[n]`.

    Raises `ConfigError` for labels or weights of another length, for fewer than two classes, and for weights that are
    negative, not finite or all 0.
    """
    labels = np.asarray(y)
    if labels.shape != (n,):
        raise ConfigError("y", f"has the shape {labels.shape} for {n:,} windows; give one label a window")
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ConfigError("y", f"has one class, {classes[0]}; give windows of at least two classes")
    weight = np.ones(n) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if weight.shape != (n,) or not np.isfinite(weight).all() or weight.min() < 0 or not weight.any():
        raise ConfigError(
            "sample_weight", "is not one finite number of 0 or more for each window; give [n], not all 0"
        )
    return classes, codes.astype(np.int64), weight


class Standardiser:
    """Standardises windows by each feature's mean and standard deviation over valid training bars."""

    def __init__(self, x: Windows, valid: Flags) -> None:
        bars = x[valid].astype(np.float64)
        self._mean = bars.mean(axis=0)
        spread = bars.std(axis=0)
        # A constant feature becomes 0.
        self._spread = np.where(spread > 0, spread, 1.0)

    def __call__(self, x: Windows, valid: Flags) -> Windows:
        """The standardised windows `[n, K, D]`, with 0 at hidden bars."""
        standard = (x - self._mean) / self._spread
        return np.where(valid[:, :, None], standard, 0).astype(np.float32)
