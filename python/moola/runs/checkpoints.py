"""Checkpoints: published atomically and hashed. The last two are kept, in case the last is damaged."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moola.errors import WeightsError
from moola.models.weights import Weights, load_weights, save_weights

__all__ = ["Checkpoints", "optimizer_tensors", "restore_optimizer"]

_KEPT = 2


class Checkpoints:
    """The checkpoints in a directory: one safetensors file per step, which holds everything but tensors as JSON."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Publishes a checkpoint, then removes those before the last two."""
        self.folder.mkdir(exist_ok=True)
        save_weights(self._path(step), tensors, record)
        for old in self._steps()[:-_KEPT]:
            self._path(old).unlink(missing_ok=True)

    def latest(self, say: Callable[[str], None]) -> Weights | None:
        """The last intact checkpoint; None if none was saved yet. `say` receives a line for each damaged one.

        Raises `WeightsError` if there are checkpoints and all are damaged.
        """
        steps = self._steps()
        for step in reversed(steps):
            try:
                return load_weights(self._path(step))
            except WeightsError as error:
                damaged = error
                say(f"checkpoint {error.path.name} {error.problem}; resuming from the one before it")
        if steps:
            advice = "Restore one from a copy, or start again in another directory"
            raise WeightsError(self.folder, f"every checkpoint is damaged ({damaged.problem})", advice)
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:010d}.safetensors"

    def _steps(self) -> list[int]:
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(int(m[1]) for name in names if (m := re.fullmatch(r"step-(\d{10})\.safetensors", name)))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer, by name."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{i}.{name}": tensor for i, of in state.items() for name, tensor in of.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restores an optimizer from :func:`optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if found := re.fullmatch(r"optimizer\.(\d+)\.(\w+)", key):
            state.setdefault(int(found[1]), {})[found[2]] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
