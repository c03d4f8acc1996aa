"""Where training stands, and how fast it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from moola.devices.placement import Placement

__all__ = ["Stopwatch", "TrainingProgress"]


@dataclass(frozen=True)
class TrainingProgress:
    """Where training stands, for whoever shows it."""

    epoch: int
    epochs: int
    step: int
    steps: int
    """Of the whole training."""
    loss: float
    """The last one that was read."""
    windows_per_second: float
    seconds_left: float
    memory: Mapping[str, int]
    """Bytes allocated and reserved on the device; empty on a CPU."""
    finished_epoch: Mapping[str, Any] | None = None
    """The epoch's line in `metrics.jsonl`, when one has ended."""


class Stopwatch:
    """Speed, and what is left, without waiting for the device."""

    def __init__(
        self,
        placement: Placement,
        epochs: int,
        steps: int,
        windows_per_step: int,
        step: int,
        report: Callable[[TrainingProgress], None],
    ) -> None:
        """`steps` are those of the whole training; `step` of them were done before."""
        self._placement, self._report = placement, report
        self._epochs, self._steps, self._windows = epochs, steps, windows_per_step
        self._loss = math.nan
        self._began = self._epoch_began = time.perf_counter()
        self._first = self._epoch_first = step

    def read(self, epoch: int, step: int, loss: float) -> None:
        """A loss was read from the device."""
        self._loss = loss
        self.report(epoch, step)

    def end_epoch(self, step: int) -> dict[str, Any]:
        """How long the epoch's steps took, as far as they were done here."""
        if self._placement.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self._epoch_began
        windows = (step - self._epoch_first) * self._windows
        return {"seconds": seconds, "windows_per_second": windows / seconds}

    def begin_epoch(self, step: int) -> None:
        """The next epoch's steps begin now."""
        self._epoch_began, self._epoch_first = time.perf_counter(), step

    def report(self, epoch: int, step: int, finished_epoch: Mapping[str, Any] | None = None) -> None:
        """Says where training stands."""
        done = step - self._first
        per_step = (time.perf_counter() - self._began) / max(done, 1)
        self._report(
            TrainingProgress(
                epoch,
                self._epochs,
                step,
                self._steps,
                self._loss,
                self._windows / per_step if done else 0.0,
                (self._steps - step) * per_step,
                self._placement.memory(),
                finished_epoch,
            )
        )
