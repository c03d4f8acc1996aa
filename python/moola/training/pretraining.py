"""Pre-training of a masked autoencoder on millions of windows. A run can be killed at any time and resumed."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from moola.data.stores import StorePath
from moola.devices.placement import place, ranks
from moola.files.messages import teller
from moola.models.weights import save_weights
from moola.runs.directory import RESULT, Run, read_record
from moola.settings.models import load_config
from moola.settings.sections import parse_config
from moola.settings.training import PretrainConfig
from moola.training.job import Job
from moola.training.log import State, TrainingLog
from moola.training.objective import MaskedAutoencoder
from moola.training.progress import TrainingProgress
from moola.training.step import Step, learning_rate

__all__ = ["PretrainResult", "pretrain"]


@dataclass(frozen=True)
class PretrainResult:
    """The result of a pre-training."""

    run: Path
    """The run directory."""
    epochs: int
    """The number of epochs trained."""
    steps: int
    """The number of steps trained."""
    best_epoch: int
    """The epoch with the lowest loss, from 0."""
    loss: float
    """The best epoch's Huber loss on masked validation bars, or on masked training bars without validation."""
    constant: float | None
    """The validation loss of each feature's best constant; None without validation."""
    interpolation: float | None
    """The validation loss of interpolation between the nearest visible bars; None without validation."""
    learned: bool
    """Whether the model beats both trivial predictors."""
    resumed: bool
    """Whether the run was already finished, so that nothing was trained."""

    @property
    def verdict(self) -> str:
        """The result as a sentence."""
        error = f"masked bars are reconstructed with an error of {self.loss:.4f}"
        if self.constant is None or self.interpolation is None:
            return (
                f"{error} in training; without validation windows it is unknown whether anything was learned"
            )
        rivals = [("interpolation", self.interpolation), ("each feature's best constant", self.constant)]
        if self.learned:
            beaten = " and ".join(
                f"{1 - self.loss / e:.0%} below that of {what} ({e:.4f})" for what, e in rivals
            )
            return f"{error}, {beaten}"
        unbeaten = " and ".join(f"{what} ({e:.4f})" for what, e in rivals if not self.loss < e)
        return f"the encoder has learned nothing: {error}, which does not beat {unbeaten}"


def pretrain(
    feature_dir: StorePath | Sequence[StorePath],
    output: str | os.PathLike[str] | None = None,
    *,
    model: str | os.PathLike[str] | Mapping[str, Any] = "jade",
    settings: Iterable[str] = (),
    seed: int = 17,
    device: str = "auto",
    precision: str = "auto",
    resume: bool = False,
    init: str | os.PathLike[str] | None = None,
    report: Callable[[TrainingProgress], None] | None = None,
    say: Callable[[str], None] | None = None,
    **training: Any,
) -> PretrainResult:
    """Trains an encoder to reconstruct masked bars.

    The run directory records settings, metrics, checkpoints and weights. On the CPU, a resumed run gives the same bits
    as an uninterrupted one.

    Args:
        feature_dir: A feature store, or several with the same features.
        output: The run directory; `runs/pretrain-MODEL-TIME` if not given.
        model: The name of a shipped configuration, the path of a YAML file, or a mapping as such a file holds it.
        settings: Values that override the configuration, each as `training.pretrain.lr=3e-4`.
        seed: The seed for initial weights, order of windows, masks and dropout.
        device: `auto`, `cpu` or `cuda`.
        precision: `auto`, `fp32` or `bf16`; see :func:`moola.devices.placement.place`.
        resume: Whether to continue from the run's last checkpoint. Without a checkpoint, training starts at step 0.
        init: A run or a weights file whose weights to start from.
        report: Called with the progress of training from time to time.
        say: Called with each line for the user; by default, lines go to the logger `moola` at INFO.
        training: Fields of :class:`moola.settings.training.PretrainConfig`, such as `epochs=5`.

    Raises `ConfigError` for invalid settings, `RunError` for a directory that cannot be used, `WeightsError` for `init`
    or for checkpoints that cannot be loaded, `FeatureMismatchError` for an `init` of other features, `NotFiniteError`
    if a loss or gradient is not finite, `DeviceError`, and the errors of opening a store.
    """
    say = teller(say)
    config = load_config(model, settings)
    if training:
        chosen = parse_config(PretrainConfig, {**config.training.pretrain.model_dump(), **training}, "")
        config = config.model_copy(
            update={"training": config.training.model_copy(update={"pretrain": chosen})}
        )
    placement = place(device, precision)
    if output is None:
        output = Path("runs") / f"pretrain-{config.model.name}-{datetime.now():%Y%m%d-%H%M%S}"
    if placement.writes:
        for notice in placement.notices:
            say(notice)
    with ranks(placement):
        job = Pretraining(feature_dir, config, placement, seed, init)
        return job.run(Path(output), resume, report or (lambda _: None), say)


class Pretraining(Job):
    """Runs a pre-training job from its current state to its end."""

    def run(
        self,
        output: Path,
        resume: bool,
        report: Callable[[TrainingProgress], None],
        say: Callable[[str], None],
    ) -> PretrainResult:
        """Trains in a run directory; with `resume` from its last checkpoint. A finished run is returned as it is."""
        placement = self.placement
        self.output = output
        with ExitStack() as stack:
            run: Run | None = None
            if placement.writes:
                run = stack.enter_context(Run.begin(output, self.resolved(), resume=resume))
            self.wait_for_others()
            if (output / RESULT).exists():
                return PretrainResult(output, **read_record(output / RESULT), resumed=True)
            progress = TrainingLog(self, run)
            if resume:
                progress.go_back(say if placement.writes else lambda _: None)
            progress.begin(stack, report)
            if not self._train(progress, stack.enter_context(_interruptions())):
                step = progress.state.step
                say(f"stopped after step {step:,} of {self.steps:,}; continue with --resume in {output}")
                raise KeyboardInterrupt
            return self._finish(output, run, progress.state)

    def _train(self, progress: TrainingLog, interrupted: threading.Event) -> bool:
        """The loop over epochs and steps. Returns False if interrupted, after writing a checkpoint."""
        state, every = progress.state, self.settings.checkpoint_every
        take_step = Step(self, progress.stopped)
        while state.epoch < self.settings.epochs and state.waited < self.settings.patience:
            self.loaders.train.start_at(state.epoch, state.batch)
            left = range(state.batch, self.steps_per_epoch)
            for _, batch in zip(left, self.loaders.train, strict=False):
                sums, norm = take_step(batch, state.step)
                state.step, state.batch = state.step + 1, state.batch + 1
                progress.note(sums, norm)
                if interrupted.is_set():
                    progress.save()
                    return False
                if every and state.step % every == 0 and state.batch < self.steps_per_epoch:
                    progress.save()
            progress.flush()
            self._end_epoch(progress)
            progress.begin_epoch()
            progress.save()
        return True

    def _weights_record(self, state: State) -> dict[str, Any]:
        return self.weights_record(state.epoch, state.step, state.best_epoch)

    def _end_epoch(self, progress: TrainingLog) -> None:
        state = progress.state
        train_loss = float(MaskedAutoencoder.mean(progress.epoch_sums))
        took = progress.watch.end_epoch(state.step)
        judged = self.loaders.val if len(self.val) else None
        record: dict[str, Any] = {
            "kind": "epoch",
            "epoch": state.epoch,
            "step": state.step,
            "lr": learning_rate(state.step - 1, self.steps, self.settings),
            "train_loss": train_loss,
        }
        if judged is not None:
            scores = self.evaluate(judged)
            val_loss = float(MaskedAutoencoder.mean(scores.model))
            record["val_loss"] = val_loss
            record["log_variance"] = self.objective.log_variance.item()
            for name, sums in scores._asdict().items():
                per_feature = (sums[:-1] / sums[-1].clamp(min=1)).tolist()
                columns = (*self.features.columns, *self.features.extra)
                record[name] = {
                    "loss": float(MaskedAutoencoder.mean(sums)),
                    "features": dict(zip(columns, per_feature, strict=True)),
                }
        loss = record.get("val_loss", train_loss)
        state.losses.append(loss)
        last = state.losses[-5:]
        record["validation_spread"] = (max(last) - min(last)) / min(last) if min(last) > 0 else 0.0
        record["parameters_per_window"] = sum(p.numel() for p in self.parameters) / len(self.train)
        # Values that differ between equal runs.
        record["timing"] = took | self.placement.memory()
        better = state.best is None or loss < state.best
        if better:
            state.best, state.best_epoch, state.best_record, state.waited = loss, state.epoch, record, 0
        else:
            state.waited += 1
        if better and progress.run is not None:
            path = progress.run.path / "best.safetensors"
            save_weights(
                path,
                self.objective.state_dict(),
                self._weights_record(state),
            )
        progress.end_epoch(record)

    def _finish(self, output: Path, run: Run | None, state: State) -> PretrainResult:
        best = state.best_record
        constant, interpolation = (best.get(name, {}).get("loss") for name in ("constant", "interpolation"))
        loss = math.nan if state.best is None else state.best
        result: dict[str, Any] = {
            "epochs": state.epoch,
            "steps": state.step,
            "best_epoch": state.best_epoch,
            "loss": loss,
            "constant": constant,
            "interpolation": interpolation,
            "learned": constant is not None and loss < min(constant, interpolation),
        }
        if run is not None:
            tensors = self.objective.state_dict()
            save_weights(
                output / "last.safetensors",
                tensors,
                self._weights_record(state),
            )
            from moola.training.figures import draw_losses, draw_reconstructions

            draw_losses(output)
            if len(self.val):
                draw_reconstructions(output, self.val)
            run.write(RESULT, result)
        self.wait_for_others()
        return PretrainResult(output, **result, resumed=False)


@contextmanager
def _interruptions() -> Iterator[threading.Event]:
    """Delays Ctrl-C to the end of the step, so that a checkpoint can be written. A second Ctrl-C acts at once."""
    event = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield event
        return

    def note(*_: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
