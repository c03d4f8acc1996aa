"""The kinds of models that a stack combines: what one gets wrong, another may get right.

Each is a scikit-learn classifier of windows `[n, K, D]` with `fit(X, y, spans=None, valid_mask=None,
sample_weight=None)` and `predict_proba(X, valid_mask=None)`; Jade has `predict_spans` too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.lazy import lazy_names

if TYPE_CHECKING:
    from moola.members.convolutional import TemporalConvolution as TemporalConvolution
    from moola.members.kernels import RandomKernels as RandomKernels
    from moola.members.kinds import KINDS as KINDS
    from moola.members.kinds import make_member as make_member
    from moola.members.trees import PooledTrees as PooledTrees

_HOMES = {
    "KINDS": "moola.members.kinds",
    "PooledTrees": "moola.members.trees",
    "RandomKernels": "moola.members.kernels",
    "TemporalConvolution": "moola.members.convolutional",
    "make_member": "moola.members.kinds",
}

__all__ = ["KINDS", "PooledTrees", "RandomKernels", "TemporalConvolution", "make_member"]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
