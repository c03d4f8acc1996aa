"""Progress and speed of training."""

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
    """The progress of training, for display."""

    epoch: int
    """The current epoch, from 0."""
    epochs: int
    """The most epochs that training may take."""
    step: int
    """Steps done."""
    steps: int
    """Steps in all epochs."""
    loss: float
    """The last training loss that was read from the device; NaN before the first."""
    windows_per_second: float
    """Windows over all ranks; 0 before the first step."""
    seconds_left: float
    """The estimated time for the remaining steps."""
    memory: Mapping[str, int]
    """Peak bytes allocated and reserved on the device; empty on a CPU."""
    finished_epoch: Mapping[str, Any] | None = None
    """The epoch's line in `metrics.jsonl` if an epoch just ended."""


class Stopwatch:
    """Measures speed and remaining time without waiting for the device, and reports progress."""

    def __init__(
        self,
        placement: Placement,
        epochs: int,
        steps: int,
        windows_per_step: int,
        step: int,
        report: Callable[[TrainingProgress], None],
    ) -> None:
        """Starts the clock.

        Args:
            placement: The device.
            epochs: The number of epochs.
            steps: Steps in all epochs.
            windows_per_step: Windows in a step, over all ranks.
            step: Steps that were done before a resume.
            report: Called with the progress.
        """
        self._placement, self._report = placement, report
        self._epochs, self._steps, self._windows = epochs, steps, windows_per_step
        self._loss = math.nan
        self._began = self._epoch_began = time.perf_counter()
        self._first = self._epoch_first = step

    def read(self, epoch: int, step: int, loss: float) -> None:
        """Takes a loss that was read from the device, and reports progress."""
        self._loss = loss
        self.report(epoch, step)

    def end_epoch(self, step: int) -> dict[str, Any]:
        """`seconds` and `windows_per_second` of the epoch's steps in this process. Waits for a GPU."""
        if self._placement.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self._epoch_began
        windows = (step - self._epoch_first) * self._windows
        return {"seconds": seconds, "windows_per_second": windows / seconds}

    def begin_epoch(self, step: int) -> None:
        """Starts the clock of the next epoch."""
        self._epoch_began, self._epoch_first = time.perf_counter(), step

    def report(self, epoch: int, step: int, finished_epoch: Mapping[str, Any] | None = None) -> None:
        """Reports progress."""
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
