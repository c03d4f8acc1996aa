"""The log of a pre-training run: metrics, checkpoints, progress and TensorBoard events."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moola.runs.checkpoints import Checkpoints, optimizer_tensors, restore_optimizer
from moola.runs.directory import ENVIRONMENT, SEEN_BARS, Run, environment
from moola.training.job import Job
from moola.training.objective import MaskedAutoencoder
from moola.training.progress import Stopwatch, TrainingProgress
from moola.training.step import learning_rate
from moola.training.steplog import StepLog, StepRows

__all__ = ["State", "TrainingLog"]


@dataclass
class State:
    """The state of training in a checkpoint, without tensors."""

    step: int = 0
    """Steps done."""
    epoch: int = 0
    """The current epoch, from 0."""
    batch: int = 0
    """Steps done in this epoch."""
    best: float | None = None
    """The lowest loss of an epoch so far."""
    best_epoch: int = -1
    best_record: dict[str, Any] = field(default_factory=dict)
    """The line of the best epoch in `metrics.jsonl`."""
    waited: int = 0
    """Epochs since the best one."""
    losses: list[float] = field(default_factory=list)
    """The loss of each epoch: in validation, or in training if there are no validation windows."""
    logged: int = 0
    """Bytes of `metrics.jsonl` at the checkpoint."""


class TrainingLog:
    """The state of a training, and its metrics, checkpoints and TensorBoard events."""

    def __init__(self, job: Job, run: Run | None) -> None:
        device = job.placement.device
        self.job, self.run, self.state = job, run, State()
        self.epoch_sums = torch.zeros(job.features.width + 1, dtype=torch.float64, device=device)
        # The first step that is not finite sets this to 1.
        self.stopped = torch.zeros((), device=device)
        self._log = StepLog(job.settings.log_every, 2, device)
        assert job.output is not None
        self._checkpoints = Checkpoints(job.output / "checkpoints")
        self._board: Any = None

    def go_back(self, say: Callable[[str], None]) -> None:
        """Restores the last intact checkpoint, if there is one: state, model and optimizer."""
        found = self._checkpoints.latest(say)
        if found is None:
            return
        self.state, tensors = State(**found.record), found.tensors
        names = self.job.objective.state_dict().keys()
        self.job.objective.load_state_dict({name: tensors[name] for name in names})
        restore_optimizer(self.job.optimizer, tensors)
        self.epoch_sums.copy_(tensors["epoch_sums"])
        self._log.restore(tensors["log"])

    def begin(self, stack: ExitStack, report: Callable[[TrainingProgress], None]) -> None:
        """Starts the clock and the log. Lines logged after the checkpoint are dropped."""
        job, step = self.job, self.state.step
        if self.run is not None:
            self.run.go_back_to(self.state.logged)
            self.run.write(ENVIRONMENT, environment(job.placement))
            self.run.write(SEEN_BARS, job.seen_bars.record())
            self._board = stack.enter_context(_tensorboard(self.run.path, step))
        epochs, windows = job.settings.epochs, job.windows_per_step
        self.watch = Stopwatch(job.placement, epochs, job.steps, windows, step, report)

    def note(self, sums: Tensor, norm: Tensor) -> None:
        """Adds a step's sums and gradient norm, and logs earlier steps whose values have arrived."""
        self.epoch_sums += sums
        self._read(self._log.add(self.state.step, MaskedAutoencoder.mean(sums), norm))

    def flush(self) -> None:
        """Waits for the values of all steps so far, and logs them."""
        self._read(self._log.flush(self.state.step))

    def save(self) -> None:
        """Writes a checkpoint. Training resumed from it gives the same bits."""
        self._read(self._log.drain() if not self.stopped else self._log.flush(self.state.step))
        if self.run is None:
            return
        self.state.logged = self.run.logged
        tensors = self.job.objective.state_dict() | optimizer_tensors(self.job.optimizer)
        tensors |= {"epoch_sums": self.epoch_sums, "log": self._log.state()}
        self._checkpoints.save(self.state.step, tensors, vars(self.state))

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        """Logs the results of an epoch."""
        if self.run is not None:
            self.run.log(record)
        if self._board is not None:
            self._board.add_scalar("train/epoch_loss", record["train_loss"], self.state.step)
            for name in ("model", "constant", "interpolation"):
                if name in record:
                    self._board.add_scalar(f"val/{name}", record[name]["loss"], self.state.step)
            self._board.flush()
        self.watch.report(self.state.epoch, self.state.step, record)

    def begin_epoch(self) -> None:
        """Moves on to the next epoch."""
        self.watch.begin_epoch(self.state.step)
        self.state.epoch, self.state.batch = self.state.epoch + 1, 0
        self.epoch_sums.zero_()

    def _read(self, several: Iterable[StepRows]) -> None:
        """Logs the values of some steps. Raises `NotFiniteError` at the first that is not finite."""
        job = self.job
        for rows in several:
            bad = ~torch.isfinite(rows.values)
            if bad.any():
                row, column = (int(i) for i in bad.nonzero()[0])
                step = rows.last_step - len(rows.values) + 1 + row
                raise job.not_finite(step, ("loss", "gradient")[column])
            loss, norm = rows.values.mean(dim=0).tolist()
            epoch = (rows.last_step - 1) // job.steps_per_epoch
            lr = learning_rate(rows.last_step - 1, job.steps, job.settings)
            self.watch.read(epoch, rows.last_step, loss)
            if self.run is not None:
                record = {
                    "kind": "step",
                    "step": rows.last_step,
                    "lr": lr,
                    "loss": loss,
                    "gradient_norm": norm,
                }
                self.run.log(record)
            if self._board is not None:
                self._board.add_scalar("train/loss", loss, rows.last_step)
                self._board.add_scalar("train/lr", lr, rows.last_step)


@contextmanager
def _tensorboard(output: Path, step: int) -> Iterator[Any]:
    """A writer of TensorBoard events; None unless the `tensorboard` extra is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    # Events after the checkpoint are discarded.
    with SummaryWriter(str(output / "tensorboard"), purge_step=step or None) as writer:
        yield writer
