"""Training: pre-training on millions of windows and its evaluation, and fitting few labelled windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.training.pretraining import PretrainResult as PretrainResult
    from moola.training.pretraining import pretrain as pretrain
    from moola.training.progress import TrainingProgress as TrainingProgress

# Imported on first use, so that comparing runs does not wait for torch.
_HOMES = {
    "PretrainResult": "moola.training.pretraining",
    "TrainingProgress": "moola.training.progress",
    "pretrain": "moola.training.pretraining",
}

__all__ = ["PretrainResult", "TrainingProgress", "pretrain"]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
