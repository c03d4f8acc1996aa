"""Windows of feature stores for training with PyTorch: a dataset, and loaders that keep up with a model."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'moola.data' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
