"""Estimators and windows for the tests of cross-validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from labelled import make_windows
from sklearn.base import BaseEstimator, ClassifierMixin

import moola
from moola.estimators import make_member
from moola.labels import LabelledWindows, read_labels

JADE: dict[str, Any] = {"hidden_size": 8, "epochs": 1, "augmentation": False, "device": "cpu"}


def jade(**others: Any) -> Any:
    return make_member("jade_compact", **JADE | others)


class Memoriser(ClassifierMixin, BaseEstimator):
    """Certain about the label of a window that it was fitted on, and ignorant about any other."""

    def fit(self, X: np.ndarray, y: np.ndarray, valid_mask: np.ndarray) -> Memoriser:
        self.classes_ = np.unique(y)
        self.known_ = {window.tobytes(): label for window, label in zip(X, y, strict=True)}
        return self

    def predict_proba(self, X: np.ndarray, valid_mask: np.ndarray) -> np.ndarray:
        known = [self.known_.get(window.tobytes()) for window in X]
        return np.array([[0.5, 0.5] if label is None else self.classes_ == label for label in known], float)


def of_market(market: Path, **others: Any) -> LabelledWindows:
    """Forty windows of each symbol, at the same times."""
    with moola.FeatureStore.open(market) as store:
        first = next(segment.first_row for segment in store.segments if segment.symbol == "SIM2")
        starts = np.concatenate([300 + 40 * np.arange(40), first + 300 + 40 * np.arange(40)])
        fields: dict[str, Any] = {
            "store_id": store.id,
            "symbols": np.repeat(["SIM1", "SIM2"], 40),
            "starts": starts,
            "ends": starts + 23,
            "times": store.timestamps[starts + 23],
        }
    return make_windows(80, **fields | others)


def of_lengths(market: Path, *lengths: int) -> list[LabelledWindows]:
    """Groups of three labels, 40 bars apart, of one symbol: windows of 30 bars share no bars, those of 105
    do."""
    ends = 300 + (220 * np.arange(20)[:, None] + [0, 40, 80]).ravel()
    labels = pa.table({"window_end": ends, "class": np.random.default_rng(0).permutation(["a", "b"] * 30)})
    return [read_labels(labels, market, window_length=length) for length in lengths]
