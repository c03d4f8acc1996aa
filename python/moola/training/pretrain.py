"""Pre-training: a masked autoencoder over millions of windows, which can be killed at any moment and resumed."""

from __future__ import annotations

import importlib.util
import math
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from moola.config import parse_config
from moola.data.dataset import StorePath, open_stores
from moola.data.device import DeviceWindowLoader
from moola.data.fast_windowed_loader import create_fast_dataloaders
from moola.errors import ConfigError, NotFiniteError, WeightsError
from moola.models.config import Config, PretrainConfig, load_config
from moola.models.dropout import seed_dropout
from moola.models.encoder import Encoder
from moola.models.loading import load_encoder
from moola.models.weights import FeatureIdentity, Origin, load_weights, save_weights, weights_path
from moola.training.checkpoints import Checkpoints, optimizer_tensors, restore_optimizer
from moola.training.devices import Placement, place, ranks
from moola.training.graphs import GraphedStep, set_learning_rate
from moola.training.inputs import hides_bars, standardise_extra, training_bars
from moola.training.learned import LearnedBars
from moola.training.objective import MaskedAutoencoder, huber, masked_sums
from moola.training.predictors import best_constants, interpolate
from moola.training.progress import Stopwatch, TrainingProgress
from moola.training.runs import ENVIRONMENT, LEARNED, RESULT, Run, environment, read_learned, read_record
from moola.training.steplog import StepLog, StepRows

__all__ = ["PretrainResult", "learning_rate", "pretrain"]

Batch: TypeAlias = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class PretrainResult:
    """What a pre-training came to."""

    run: Path
    epochs: int
    """Epochs that were trained."""
    steps: int
    best_epoch: int
    loss: float
    """The best epoch's Huber error over masked bars of validation (of training, where there is no validation)."""
    constant: float | None
    """The same error of each feature's best constant; none without validation."""
    interpolation: float | None
    """The same error of interpolating between the nearest bars that are not masked; none without validation."""
    learned: bool
    """Whether the model beats both."""
    resumed: bool
    """Whether the run was finished already, and nothing was done."""

    @property
    def verdict(self) -> str:
        """The same in a sentence."""
        error = f"masked bars are reconstructed with an error of {self.loss:.4f}"
        if self.constant is None or self.interpolation is None:
            return (
                f"{error} in training; without validation windows nobody knows whether anything was learned"
            )
        rivals = [("interpolation", self.interpolation), ("each feature's best constant", self.constant)]
        if self.learned:
            beaten = " and ".join(
                f"{1 - self.loss / e:.0%} below that of {what} ({e:.4f})" for what, e in rivals
            )
            return f"{error}, {beaten}"
        unbeaten = " and ".join(f"{what} ({e:.4f})" for what, e in rivals if not self.loss < e)
        return f"the encoder has learned nothing: {error}, which does not beat {unbeaten}"


@dataclass
class _State:
    """Where training stands, apart from tensors: what a checkpoint holds."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best: float | None = None
    best_epoch: int = -1
    best_record: dict[str, Any] = field(default_factory=dict)
    waited: int = 0
    """Epochs since the best one."""
    losses: list[float] = field(default_factory=list)
    """The validation loss of each epoch."""
    logged: int = 0


class _Scores(NamedTuple):
    """Sums over masked bars, `[D + 1]` as :class:`MaskedAutoencoder` gives them."""

    model: Tensor
    constant: Tensor
    interpolation: Tensor


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
    say: Callable[[str], None] = print,
    **training: Any,
) -> PretrainResult:
    """Trains an encoder to reconstruct masked bars, in a run directory that holds all one needs to go on or to judge.

    Args:
        feature_dir: A feature store, or several with the same features.
        output: The run directory; `runs/pretrain-MODEL-TIME` if not given.
        model: The name of a shipped configuration, a YAML file, or what it holds.
        settings: Values that take the place of those in the configuration, each as `training.pretrain.lr=3e-4`.
        seed: Of the initial weights, the order of windows, the masks and the dropout.
        device: `auto`, `cpu` or `cuda`.
        precision: `auto`, `fp32` or `bf16`; see :func:`moola.training.devices.place`.
        resume: Go on from the run's last checkpoint, or begin where there is none yet.
        init: A run, or a weights file, whose weights to start from.
        report: Called every so often with where training stands.
        say: Called with what a person should know.
        training: Names and values of :class:`moola.models.config.PretrainConfig`, such as `epochs=5`.

    On the CPU a resumed run gives the bits of one that was never interrupted.

    Raises `ConfigError` for settings that make no sense, `RunError` for a directory that cannot be used so,
    `NotFiniteError` when a loss or gradient is not finite, `DeviceError`, and what opening a store raises.
    """
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
        job = _Pretraining(feature_dir, config, placement, seed, init)
        return job.run(Path(output), resume, report or (lambda _: None), say)


def learning_rate(step: int, steps: int, settings: PretrainConfig) -> float:
    """Of this step, counted from 0: a straight rise, then half a cosine. Loshchilov & Hutter, ICLR 2017."""
    warmup = max(1, round(settings.warmup_share * steps))
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    low = settings.min_lr_share
    return settings.lr * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


class _Pretraining:
    """One training, on one rank."""

    def __init__(
        self,
        feature_dir: StorePath | Sequence[StorePath],
        config: Config,
        placement: Placement,
        seed: int,
        init: str | os.PathLike[str] | None,
    ) -> None:
        self.config, self.placement, self.seed = config, placement, seed
        self.settings = s = config.training.pretrain
        stores = open_stores(feature_dir)
        self.loaders = create_fast_dataloaders(
            stores,
            s.batch_size,
            s.mask_ratio,
            seed=seed,
            window_length=s.window_length,
            stride=s.stride,
            mask_strategy=s.mask_strategy,
            patch_size=s.patch_size,
            extra=s.extra,
            device=placement.device,
            rank=placement.rank,
            world_size=placement.world_size,
        )
        self.train, self.val = self.loaders.train.dataset, self.loaders.val.dataset
        self.steps_per_epoch = self._steps_per_epoch()
        self.steps = s.epochs * self.steps_per_epoch
        self.windows_per_step = s.batch_size * placement.world_size
        self.features = FeatureIdentity.of(stores, s.extra)
        self.learned = LearnedBars.of(self.train, self.val)
        self.some_hidden = hides_bars(self.train) or hides_bars(self.val)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = Encoder(self.features.width, config.model.architecture)
            standardise_extra(encoder, self.train)
            self.objective = MaskedAutoencoder(encoder)
        self.init_digest = self._start_from(init) if init is not None else None
        self.objective.to(placement.device)
        self.model: nn.Module = self.objective
        if placement.world_size > 1:
            on_gpu = placement.device.type == "cuda"
            self.model = DistributedDataParallel(
                self.objective, device_ids=[placement.device] if on_gpu else None
            )
        self.parameters = list(self.objective.parameters())
        on_gpu = placement.device.type == "cuda"
        if s.cuda_graph and (not on_gpu or placement.world_size > 1):
            raise ConfigError("cuda_graph", "goes with one GPU; leave it out on a CPU and with several ranks")
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": s.weight_decay},
                {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=torch.tensor(s.lr, device=placement.device) if s.cuda_graph else s.lr,
            fused=on_gpu,
            capturable=s.cuda_graph,
        )
        self.constants: Tensor | None = None
        self.rivals: _Scores | None = None
        self.output: Path | None = None

    # What the run is

    def resolved(self) -> dict[str, Any]:
        """All that the outcome depends on, for `config.json`."""
        return {
            "kind": "pretrain",
            "model": self.config.model.model_dump(),
            "training": self.settings.model_dump(mode="json"),
            "seed": self.seed,
            "device": self.placement.device.type,
            "precision": self.placement.precision,
            "ranks": self.placement.world_size,
            "init": self.init_digest,
            "features": self.features.record(),
            "window_length": self.train.window_length,
            "windows": {
                "train": len(self.train),
                "val": len(self.val),
                "fingerprint": self.train.fingerprint,
                "validation_fingerprint": self.val.fingerprint,
            },
            "stores": [str(store.path) for store in self.train.stores],
        }

    def _steps_per_epoch(self) -> int:
        s, available = self.settings, len(self.loaders.train)
        windows = s.batch_size * self.placement.world_size
        if not available:
            raise ConfigError(
                "batch_size",
                f"{windows:,} windows a step are more than the {len(self.train):,} that train has at stride "
                f"{s.stride}; give a smaller batch or stride",
            )
        if s.windows_per_epoch is None:
            return available
        steps = s.windows_per_epoch // windows
        if not 1 <= steps <= available:
            raise ConfigError(
                "windows_per_epoch",
                f"{s.windows_per_epoch:,} is not between a step's {windows:,} and the {available * windows:,} that "
                "an epoch has; give a number between",
            )
        return steps

    def _start_from(self, init: str | os.PathLike[str]) -> str:
        """Takes over another run's weights: of the whole autoencoder where it has one, else of the encoder."""
        encoder = load_encoder(init)
        assert encoder.origin is not None
        encoder.origin.features.require(self.features, "the store")
        path = weights_path(init)
        weights = load_weights(path)
        if encoder.origin.model.architecture != self.config.model.architecture:
            mine, theirs = self.config.model.architecture, encoder.origin.model.architecture
            names = [n for n in type(mine).model_fields if getattr(mine, n) != getattr(theirs, n)]
            problem = f"its model has another {', '.join(names)}"
            raise WeightsError(path, problem, "Give --model and --set as they were then")
        whole = encoder.origin.kind == "pretrain"
        target: nn.Module = self.objective if whole else self.objective.encoder
        target.load_state_dict(weights.tensors if whole else encoder.state_dict())
        if path.parent.joinpath(LEARNED).exists():
            self.learned |= read_learned(path.parent)
        return weights.digest

    def _weights_record(self, state: _State) -> dict[str, Any]:
        more = {"epoch": state.epoch, "step": state.step, "best_epoch": state.best_epoch, "seed": self.seed}
        return Origin("pretrain", self.config.model, self.features, self.train.window_length, more).record()

    # Training

    def run(
        self,
        output: Path,
        resume: bool,
        report: Callable[[TrainingProgress], None],
        say: Callable[[str], None],
    ) -> PretrainResult:
        """Trains from where the run stands to its end."""
        placement = self.placement
        self.output = output
        with ExitStack() as stack:
            run: Run | None = None
            if placement.writes:
                run = stack.enter_context(Run.begin(output, self.resolved(), resume=resume))
            self._wait_for_others()
            if (output / RESULT).exists():
                return PretrainResult(output, **read_record(output / RESULT), resumed=True)
            progress = _Progress(self, run)
            if resume:
                progress.go_back(say if placement.writes else lambda _: None)
            progress.begin(stack, report)
            if not self._train(progress, stack.enter_context(_interruptions())):
                step = progress.state.step
                say(f"stopped after step {step:,} of {self.steps:,}; go on with --resume in {output}")
                raise KeyboardInterrupt
            return self._finish(output, run, progress.state)

    def _train(self, progress: _Progress, interrupted: threading.Event) -> bool:
        """The loop over epochs and steps. False where it was interrupted after a step, which a checkpoint then has."""
        state, every = progress.state, self.settings.checkpoint_every
        take_step = _Step(self, progress.stopped)
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

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What to minimise for a batch, and the sums over all ranks that it is made of."""
        x, mask, valid = batch
        with self.placement.autocast():
            sums = self.model(x, mask, valid if self.some_hidden else None)
        total = self.placement.sum(sums.detach().clone())
        # Divided by what all ranks have masked, and times the ranks, over which gradients are averaged.
        loss = sums[:-1].mean() * self.placement.world_size / total[-1].clamp(min=1)
        return self.objective.weighted(loss), total

    def _wait_for_others(self) -> None:
        if self.placement.world_size > 1:
            torch.distributed.barrier()

    def not_finite(self, step: int, what: str) -> NotFiniteError:
        """The error that names the windows of a step (counted from 1) of this rank."""
        epoch, batch = divmod(step - 1, self.steps_per_epoch)
        numbers = self.loaders.train.numbers(epoch, batch)
        x = self.train.batch(numbers)[0]
        spoilt = (~torch.isfinite(x)).any(dim=2).any(dim=1).numpy()
        order = np.argsort(~spoilt, kind="stable")
        places = self.train.places(numbers[order])
        windows = list(zip(self.train.symbols_of(places), places.last_timestamp.tolist(), strict=True))
        return NotFiniteError(step, what, windows, int(spoilt.sum()), self.output)

    # Judging

    def _end_epoch(self, progress: _Progress) -> None:
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
        # What differs from one time to the next.
        record["timing"] = took | self.placement.memory()
        better = state.best is None or loss < state.best
        if better:
            state.best, state.best_epoch, state.best_record, state.waited = loss, state.epoch, record, 0
        else:
            state.waited += 1
        if better and progress.run is not None:
            path = progress.run.path / "best.safetensors"
            save_weights(path, self.objective.state_dict(), self._weights_record(state))
        progress.end_epoch(record)

    def evaluate(self, loader: DeviceWindowLoader) -> _Scores:
        """The model's errors over a loader's masked bars, and those of the trivial predictors."""
        device, width = self.placement.device, self.features.width
        sums = torch.zeros(3, width + 1, dtype=torch.float64, device=device)
        first = self.rivals is None
        if self.constants is None:
            constants = best_constants(training_bars(self.train))
            self.constants = self.objective.encoder.standardise(
                torch.from_numpy(constants).float().to(device)
            )
        self.objective.eval()
        # Masks of validation never change, and so neither do the errors of predictors that learn nothing.
        loader.start_at(0)
        with torch.no_grad():
            for x, mask, valid in loader:
                with self.placement.autocast():
                    sums[0] += self.objective(x, mask, valid if self.some_hidden else None)
                if first:
                    x = self.objective.encoder.standardise(x)
                    sums[1] += masked_sums(huber(self.constants.expand_as(x), x), mask)
                    sums[2] += masked_sums(huber(interpolate(x, mask, valid), x), mask)
        self.objective.train()
        self.placement.sum(sums)
        model, constant, interpolation = sums.cpu()
        self.rivals = self.rivals or _Scores(model, constant, interpolation)
        return self.rivals._replace(model=model)

    def _finish(self, output: Path, run: Run | None, state: _State) -> PretrainResult:
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
            save_weights(output / "last.safetensors", tensors, self._weights_record(state))
            from moola.training.figures import draw_losses, draw_reconstructions

            draw_losses(output)
            if len(self.val):
                draw_reconstructions(output, self.val)
            run.write(RESULT, result)
        self._wait_for_others()
        return PretrainResult(output, **result, resumed=False)


class _Progress:
    """Where a training stands, and what is kept of it: metrics, events for TensorBoard, checkpoints."""

    def __init__(self, job: _Pretraining, run: Run | None) -> None:
        device = job.placement.device
        self.job, self.run, self.state = job, run, _State()
        self.epoch_sums = torch.zeros(job.features.width + 1, dtype=torch.float64, device=device)
        # Set by the first step that is not finite.
        self.stopped = torch.zeros((), device=device)
        self._log = StepLog(job.settings.log_every, 2, device)
        assert job.output is not None
        self._checkpoints = Checkpoints(job.output / "checkpoints")
        self._board: Any = None

    def go_back(self, say: Callable[[str], None]) -> None:
        """Takes back the last checkpoint, if there is one: of the model and the optimizer too."""
        found = self._checkpoints.latest(say)
        if found is None:
            return
        self.state, tensors = _State(**found.record), found.tensors
        names = self.job.objective.state_dict().keys()
        self.job.objective.load_state_dict({name: tensors[name] for name in names})
        restore_optimizer(self.job.optimizer, tensors)
        self.epoch_sums.copy_(tensors["epoch_sums"])
        self._log.restore(tensors["log"])

    def begin(self, stack: ExitStack, report: Callable[[TrainingProgress], None]) -> None:
        """From here on time is measured, and what was logged after the checkpoint is forgotten."""
        job, step = self.job, self.state.step
        if self.run is not None:
            self.run.go_back_to(self.state.logged)
            self.run.write(ENVIRONMENT, environment(job.placement))
            self.run.write(LEARNED, job.learned.record())
            self._board = stack.enter_context(_tensorboard(self.run.path, step))
        epochs, windows = job.settings.epochs, job.windows_per_step
        self.watch = Stopwatch(job.placement, epochs, job.steps, windows, step, report)

    def note(self, sums: Tensor, norm: Tensor) -> None:
        """Notes what a step came to; reads what has become readable meanwhile."""
        self.epoch_sums += sums
        self._read(self._log.add(self.state.step, MaskedAutoencoder.mean(sums), norm))

    def flush(self) -> None:
        """Waits for all steps that were noted, and reads them."""
        self._read(self._log.flush(self.state.step))

    def save(self) -> None:
        """Publishes a checkpoint, from which training goes on to the same bits."""
        self._read(self._log.drain() if not self.stopped else self._log.flush(self.state.step))
        if self.run is None:
            return
        self.state.logged = self.run.logged
        tensors = self.job.objective.state_dict() | optimizer_tensors(self.job.optimizer)
        tensors |= {"epoch_sums": self.epoch_sums, "log": self._log.state()}
        self._checkpoints.save(self.state.step, tensors, vars(self.state))

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        """Keeps what an epoch came to."""
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
        """Counts on to the next epoch."""
        self.watch.begin_epoch(self.state.step)
        self.state.epoch, self.state.batch = self.state.epoch + 1, 0
        self.epoch_sums.zero_()

    def _read(self, several: Iterable[StepRows]) -> None:
        """Reads what some steps came to: stops at one that is not finite, logs the others."""
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


class _Step:
    """One step of training: forward, backward, clip, update. A step that is not finite is not taken."""

    def __init__(self, job: _Pretraining, stopped: Tensor) -> None:
        """`stopped` is set by the first step that is not finite; from then on the fused optimizer takes none."""
        self.job, self.stopped = job, stopped
        if job.placement.device.type == "cuda":
            job.optimizer.found_inf = self.stopped  # type: ignore[attr-defined]
        self._update: Callable[[Batch], tuple[Tensor, Tensor]] = self.update
        if job.settings.cuda_graph:
            self._update = GraphedStep(self.update, job.objective, job.optimizer)

    def __call__(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """The batch's sums over all ranks, and the norm of the gradient; `step` counts from 0."""
        job = self.job
        set_learning_rate(job.optimizer, learning_rate(step, job.steps, job.settings))
        seed_dropout(job.objective, job.seed, step, job.placement.rank)
        sums, norm = self._update(batch)
        if job.placement.device.type == "cpu" and self.stopped:
            raise job.not_finite(step + 1, "gradient" if torch.isfinite(sums).all() else "loss")
        return sums, norm

    def update(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What every step does on the device."""
        job = self.job
        job.optimizer.zero_grad(set_to_none=True)
        loss, sums = job.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(job.parameters, job.settings.clip_norm)
        good = torch.isfinite(sums).all() & torch.isfinite(norm)
        self.stopped.copy_(torch.maximum(self.stopped, (~good).float()))
        # On a GPU nobody waits to see: the optimizer itself looks at `stopped`, and the log tells of it soon enough.
        if job.placement.device.type != "cpu" or not self.stopped:
            job.optimizer.step()
        return sums, norm


@contextmanager
def _tensorboard(output: Path, step: int) -> Iterator[Any]:
    """A writer of events, where the `tensorboard` extra is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    # Of what was written after the checkpoint nothing counts.
    with SummaryWriter(str(output / "tensorboard"), purge_step=step or None) as writer:
        yield writer


@contextmanager
def _interruptions() -> Iterator[threading.Event]:
    """Has Ctrl-C wait for the end of the step, so that a checkpoint can be saved; a second one does not wait."""
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
