"""Training: pre-training on millions of windows, and what judges it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.training.pretraining import PretrainResult as PretrainResult
    from moola.training.pretraining import pretrain as pretrain
    from moola.training.progress import TrainingProgress as TrainingProgress

# Imported when first used: comparing runs need not wait for torch.
_HOMES = {
    "PretrainResult": "moola.training.pretraining",
    "TrainingProgress": "moola.training.progress",
    "pretrain": "moola.training.pretraining",
}

__all__ = ["PretrainResult", "TrainingProgress", "pretrain"]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
