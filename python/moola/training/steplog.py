"""Collects the values of steps on the device and reads them in batches, so that logging does not delay training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["StepLog", "StepRows"]


class StepRows(NamedTuple):
    """The values of consecutive steps, on the CPU."""

    last_step: int
    """The step of the last row, counted from 1."""
    values: Tensor
    """`[steps, values]` float64."""


class StepLog:
    """A buffer on the device with one row of scalars a step.

    A full buffer is copied to pinned memory after the queued work, without waiting. Its rows are returned when the next
    buffer is full; by then the copy is done. On a CPU they are returned at once.

    Args:
        every: Rows of the buffer.
        values: Scalars of a row.
        device: Where the buffer is.
    """

    def __init__(self, every: int, values: int, device: torch.device) -> None:
        self.every = every
        self._rows = torch.zeros(every, values, dtype=torch.float64, device=device)
        self._count = 0
        self._pending: tuple[StepRows, torch.cuda.Event | None] | None = None

    def add(self, step: int, *values: Tensor) -> list[StepRows]:
        """Adds a step's values, each a scalar on the device. Returns rows that have become readable."""
        self._rows[self._count] = torch.stack([value.detach().double() for value in values])
        self._count += 1
        return self.flush(step, drain=False) if self._count == self.every else []

    def flush(self, step: int, *, drain: bool = True) -> list[StepRows]:
        """Ends the buffer after this step. Returns readable rows; with `drain`, waits for all rows and returns them."""
        ready = self.drain() if self._pending is not None else []
        if self._count:
            rows = self._rows[: self._count]
            self._count = 0
            if rows.device.type == "cpu":
                return [*ready, StepRows(step, rows.clone())]
            copy = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
            copy.copy_(rows, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._pending = (StepRows(step, copy), event)
        return [*ready, *self.drain()] if drain else ready

    def drain(self) -> list[StepRows]:
        """Waits for the buffer that is being copied, and returns its rows, but not those of the current buffer."""
        if self._pending is None:
            return []
        rows, event = self._pending
        self._pending = None
        if event is not None:
            event.synchronize()
        return [rows]

    def state(self) -> Tensor:
        """The rows of the current buffer, for a checkpoint."""
        return self._rows[: self._count]

    def restore(self, rows: Tensor) -> None:
        """Restores the rows that :meth:`state` returned."""
        self._count = len(rows)
        self._rows[: self._count] = rows.to(self._rows.device)
