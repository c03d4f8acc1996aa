"""What each step came to, gathered on the device and read every so often, so that the loop never waits to log."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["StepLog", "StepRows"]


class StepRows(NamedTuple):
    """The values of some steps, on the CPU."""

    last_step: int
    values: Tensor
    """`[steps, values]` float64."""


class StepLog:
    """Rows of scalars, one a step, in a buffer on the device.

    A full buffer is copied to pinned memory behind the work that is queued already, and handed out when the next one
    is full: by then it is there. On a CPU it is handed out at once.
    """

    def __init__(self, every: int, values: int, device: torch.device) -> None:
        self.every = every
        self._rows = torch.zeros(every, values, dtype=torch.float64, device=device)
        self._count = 0
        self._pending: tuple[StepRows, torch.cuda.Event | None] | None = None

    def add(self, step: int, *values: Tensor) -> list[StepRows]:
        """Notes a step's values, each a scalar on the device. Gives what has become readable."""
        self._rows[self._count] = torch.stack([value.detach().double() for value in values])
        self._count += 1
        return self.flush(step, drain=False) if self._count == self.every else []

    def flush(self, step: int, *, drain: bool = True) -> list[StepRows]:
        """Ends the rows here, after this step; with `drain` waits for all that was noted, and gives it."""
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
        """Waits for the buffer that is on its way, and gives it; not what is in the one being filled."""
        if self._pending is None:
            return []
        rows, event = self._pending
        self._pending = None
        if event is not None:
            event.synchronize()
        return [rows]

    def state(self) -> Tensor:
        """The rows in the buffer being filled, for a checkpoint."""
        return self._rows[: self._count]

    def restore(self, rows: Tensor) -> None:
        """Takes back what :meth:`state` gave."""
        self._count = len(rows)
        self._rows[: self._count] = rows.to(self._rows.device)
