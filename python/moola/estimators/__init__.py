"""Scikit-learn classifiers of windows: Jade, and the kinds of model for comparing and stacking with it.

Each has `fit(X, y, spans=None, valid_mask=None, sample_weight=None)` and `predict_proba(X, valid_mask=None)` for
windows `[n, K, D]`. Jade also has `predict_spans`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.estimators.boosted_trees import PooledTrees as PooledTrees
    from moola.estimators.convolutional import TemporalConvolution as TemporalConvolution
    from moola.estimators.jade import JadeClassifier as JadeClassifier
    from moola.estimators.kinds import KINDS as KINDS
    from moola.estimators.kinds import make_member as make_member
    from moola.estimators.rocket import RandomKernels as RandomKernels

_HOMES = {
    "JadeClassifier": "moola.estimators.jade",
    "KINDS": "moola.estimators.kinds",
    "PooledTrees": "moola.estimators.boosted_trees",
    "RandomKernels": "moola.estimators.rocket",
    "TemporalConvolution": "moola.estimators.convolutional",
    "make_member": "moola.estimators.kinds",
}

__all__ = ["KINDS", "JadeClassifier", "PooledTrees", "RandomKernels", "TemporalConvolution", "make_member"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
