"""Windows of feature stores for training with PyTorch: a dataset, and loaders that keep up with a model."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if importlib.util.find_spec("torch") is None:
    raise ImportError(
        "serving windows needs torch, which is not installed here: `pip install 'torch>=2.2'`, or install moola "
        "with its dependencies (without --no-deps)",
        name="torch",
    )

if TYPE_CHECKING:
    from moola.data.dataset import FastWindowedDataset as FastWindowedDataset

# Imported when first used: `python -m moola.data.fast_windowed_loader --help` need not wait for torch.
_HOMES = {"FastWindowedDataset": "moola.data.dataset"}

__all__ = ["FastWindowedDataset"]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
