"""Fine-tuning: from a few hundred labelled windows to a type and a span."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moola.augment import Augmentation, AugmentationConfig, window_keys
from moola.data.order import WindowOrder
from moola.errors import ConfigError, NotFiniteError
from moola.labels.spans import in_spans
from moola.models.config import FinetuneConfig, ModelConfig
from moola.models.dropout import seed_dropout
from moola.models.encoder import Encoder, pool
from moola.models.jade import Jade, JadeOutput, build_model
from moola.models.spans import encode_spans
from moola.training.devices import forget_peak_memory, peak_memory
from moola.training.objective import huber, uncertainty_weighted
from moola.training.threads import one_thread

__all__ = [
    "EpochRecord",
    "Examples",
    "FitResult",
    "augmentation_for",
    "check_shape",
    "fit_jade",
    "freeze_layers",
    "frozen_layers",
    "new_model",
    "span_targets",
    "spread_of_last",
]

TASKS = ("type", "pointer", "span")
# Where each task's s = log σ² begins.
_LOG_VARIANCES = (0.0, -0.6, 0.0)
_POINTER_DELTA = 0.08
# Of center and length.
_POINTER_WEIGHTS = (1.0, 0.8)
# Epochs over which the spread of the validation loss is told.
_LAST = 5
# Windows encoded or judged at a time.
_CHUNK = 256


class Examples(NamedTuple):
    """Labelled windows, n of K bars and D features."""

    X: NDArray[np.float32]
    """`[n, K, D]`."""
    valid: NDArray[np.bool_]
    """`[n, K]`: which bars the model may see."""
    y: NDArray[np.int64]
    """`[n]`, classes from 0 on."""
    spans: NDArray[np.int64]
    """`[n, 2]`, first and last bar in the window; −1 and −1 where there is none."""
    weight: NDArray[np.float64]
    """`[n]`, more than 0: how much each window counts."""


class EpochRecord(NamedTuple):
    """What one epoch came to."""

    epoch: int
    """From 0 on."""
    lr: float
    frozen: int
    """How many of the encoder's layers were frozen, from the bottom."""
    losses: dict[str, float]
    """The mean loss of each task in training, unweighted; where layers train, with their dropout."""
    validation_losses: dict[str, float] | None
    validation_loss: float | None
    """What is selected and stopped on: the tasks' losses, each times exp(−s) of the s that its weight began with."""
    validation_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class FitResult:
    """What a fine-tuning came to."""

    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    """Whose weights the model has: that of the least validation loss, or the last one where there is no validation."""
    stopped_early: bool
    log_variances: dict[str, float]
    """Each task's learned s = log σ²."""
    window_losses: NDArray[np.float64] | None = None
    """`[m]`: the best epoch's loss of each validation window, whose mean is that epoch's validation loss."""
    memory: dict[str, int] = field(default_factory=dict)
    """What :func:`moola.training.devices.peak_memory` gave: of this fit alone, whatever was trained before it."""

    def record(self) -> dict[str, Any]:
        """What monitoring wants to know, for a line of `metrics.jsonl`; losses and spread are None without validation.

        `slowest_epoch` and `seconds`, of all epochs, are in `timing`, as whatever is never twice the same; and so are
        the bytes on a GPU.
        """
        losses = [record.validation_loss for record in self.epochs if record.validation_loss is not None]
        seconds = [record.seconds for record in self.epochs]
        return {
            "epochs": len(self.epochs),
            "best_epoch": self.best_epoch,
            "val_loss": self.epochs[self.best_epoch].validation_loss,
            "validation_spread": spread_of_last(losses) if losses else None,
            "timing": {"seconds": sum(seconds), "slowest_epoch": max(seconds)} | self.memory,
        }


def spread_of_last(losses: Sequence[float]) -> float:
    """(highest − lowest)/lowest of the losses of the last epochs, five at most."""
    last = losses[-_LAST:]
    return (max(last) - min(last)) / min(last) if min(last) > 0 else 0.0


def check_shape(config: ModelConfig, encoder: Encoder) -> None:
    """Raises `ConfigError`, naming the parameter, where an encoder is of another shape than the model's."""
    wanted = config.architecture
    for name, theirs, ours in (
        ("hidden_size", encoder.hidden_size, wanted.hidden_size),
        ("num_layers", len(encoder.layers), wanted.num_layers),
        ("use_position", encoder.use_position, wanted.use_position),
    ):
        if theirs != ours:
            problem = f"is {ours} in the model and {theirs} in the encoder; fine-tune the model that was"
            raise ConfigError(name, f"{problem} pre-trained, or train from scratch")


def new_model(config: ModelConfig, input_size: int, *, seed: int, encoder: Encoder | None = None) -> Jade:
    """A model with weights drawn from the seed, and the encoder's where one is given.

    torch's own generator is left as it was. Raises `ConfigError` when the encoder has another shape.
    """
    if encoder is not None:
        check_shape(config, encoder)
        if encoder.input_size != input_size:
            problem = f"was pre-trained on {encoder.input_size} features, the windows have {input_size}"
            raise ConfigError("encoder", f"{problem}; give windows of the features it was trained on")
    with _INITIALISING:
        state = torch.get_rng_state()
        try:
            # Not torch.manual_seed, which would seed the generators of GPUs too.
            torch.default_generator.manual_seed(seed)
            model = build_model(config, input_size)
            _initialise(model)
        finally:
            torch.set_rng_state(state)
    if encoder is not None:
        model.encoder.load_state_dict(encoder.state_dict())
        model.encoder.origin = encoder.origin
    return model


# Of models that are made in several threads at a time, each has the generator to itself.
_INITIALISING = threading.Lock()


def _initialise(model: Jade) -> None:
    """Draws a model's weights so that few labels and few steps teach it something.

    Recurrent weights are orthogonal (Saxe, McClelland & Ganguli, ICLR 2014), others follow from the widths of their
    layers (Glorot & Bengio, AISTATS 2010; He et al., ICCV 2015), and the encoder has no biases. From torch's own
    weights and random biases small models learned less in as many steps, and at times nothing.
    """
    for layer in model.encoder.layers:
        for name, parameter in layer.named_parameters():
            for gate in parameter.chunk(4):
                if "bias" in name:
                    nn.init.zeros_(gate)
                elif "weight_hh" in name:
                    nn.init.orthogonal_(gate)
                else:
                    nn.init.xavier_uniform_(gate, 0.5)
    for head in (model.type_head, model.pointer_head):
        hidden, out = (layer for layer in head if isinstance(layer, nn.Linear))
        nn.init.kaiming_uniform_(hidden.weight, nonlinearity="relu")
        nn.init.xavier_uniform_(out.weight)
        # Pooled states of different windows differ little at first. Without a start above 0 a few steps in one
        # direction leave a unit at 0 for all of them, and one fit in thirty lost all units of a narrow head, for good.
        nn.init.constant_(hidden.bias, 0.2)
        nn.init.zeros_(out.bias)


def frozen_layers(settings: FinetuneConfig, layers: int, epoch: int) -> int:
    """How many of an encoder's layers are frozen in an epoch, from the bottom."""
    if settings.freeze == "none":
        return 0
    if settings.freeze == "always" or epoch < settings.freeze:
        return layers
    if not settings.unfreeze_every:
        return 0
    return max(0, layers - 1 - (epoch - settings.freeze) // settings.unfreeze_every)


def freeze_layers(encoder: Encoder, frozen: int) -> None:
    """Freezes the lowest layers and has the others train. What is frozen has no dropout, nor what leads to it."""
    for i, layer in enumerate(encoder.layers):
        layer.requires_grad_(i >= frozen).train(i >= frozen)
    encoder.input_dropout.train(frozen == 0)
    encoder.between.train(frozen < len(encoder.layers))


def span_targets(spans: Tensor, length: int, edge: float) -> Tensor:
    """What the span head should say of each bar: `[B, K]`, 1 within the span, 0 outside, and between them at its ends.

    An end lies between two bars, and around it the target falls linearly within `edge` bars: nobody marks an end to
    the bar. Windows without a span, −1 and −1, have 0 everywhere.

    Args:
        spans: `[B, 2]`, first and last bar.
        length: K.
        edge: Bars.
    """
    bars = torch.arange(length, device=spans.device)
    first, last = spans[:, :1], spans[:, 1:]
    inside = torch.minimum(bars - first, last - bars) + 0.5
    return torch.where(first < 0, 0.0, (0.5 + inside / edge).clamp(0, 1))


def augmentation_for(examples: Examples, config: AugmentationConfig) -> Augmentation:
    """Augmentation of these windows: noise by each feature's deviation over their bars, within each one's range."""
    bars = examples.X[examples.valid].astype(np.float64)
    ranges = np.stack([bars.min(axis=0), bars.max(axis=0)], axis=1)
    return Augmentation(bars.std(axis=0), ranges, config)


class _Windows(NamedTuple):
    """Examples on a device. Weights have a mean of 1, so that the mean loss of a batch estimates that of all."""

    x: Tensor
    """`[n, K, D]`; once encoded `[n, K, 2H]`, or `[n, 1, 2H]` where pooling is all the heads do with it."""
    valid: Tensor | None
    shown: Tensor | None
    """`[n, K]`: as `valid`, also once they are pooled; None where nothing is hidden."""
    y: Tensor
    spans: Tensor
    type_weight: Tensor
    pointer_weight: Tensor
    """0 where there is no span of which a bar may be seen."""
    span_weight: Tensor

    @classmethod
    def of(cls, examples: Examples, factors: NDArray[np.float64], device: torch.device) -> _Windows:
        weight = examples.weight.astype(np.float64)
        has_span = _seen_spans(examples)

        def normalised(weights: NDArray[np.float64]) -> Tensor:
            mean = weights.mean()
            return torch.tensor(weights / mean if mean > 0 else weights, dtype=torch.float32, device=device)

        valid = None if examples.valid.all() else torch.tensor(examples.valid, device=device)
        return cls(
            torch.tensor(examples.X, dtype=torch.float32, device=device),
            valid,
            valid,
            torch.tensor(examples.y, device=device),
            torch.tensor(examples.spans, device=device),
            normalised(weight * factors[examples.y]),
            normalised(weight * has_span),
            normalised(weight),
        )

    def take(self, numbers: Tensor | slice) -> _Windows:
        return _Windows(*(None if tensor is None else tensor[numbers] for tensor in self))  # type: ignore[arg-type]

    def chunks(self) -> Iterator[_Windows]:
        for first in range(0, len(self.x), _CHUNK):
            yield self.take(slice(first, first + _CHUNK))

    @torch.no_grad()
    def encoded(self, model: Jade) -> _Windows:
        """What a frozen encoder makes of them, once and for all."""
        model.encoder.eval()
        outputs = []
        for chunk in self.chunks():
            y = model.encoder(model.encoder.standardise(chunk.x), chunk.valid)
            outputs.append(y if model.span_head is not None else pool(y, chunk.valid)[:, None])
        valid = self.valid if model.span_head is not None else None
        return self._replace(x=torch.cat(outputs), valid=valid)


class _Objective(nn.Module):
    """The tasks' losses, and their weights. What it learns is no part of the model."""

    factors: Tensor
    pointer_weights: Tensor
    positive: Tensor

    def __init__(self, tasks: tuple[str, ...], length: int, edge: float, positive: float) -> None:
        super().__init__()
        self.tasks, self.length, self.edge = tasks, length, edge
        begin = torch.tensor([_LOG_VARIANCES[TASKS.index(task)] for task in tasks])
        self.log_variances = nn.Parameter(begin)
        self.register_buffer("factors", torch.exp(-begin))
        self.register_buffer("pointer_weights", torch.tensor(_POINTER_WEIGHTS))
        self.register_buffer("positive", torch.tensor(positive))

    def losses(self, output: JadeOutput, batch: _Windows) -> Tensor:
        """`[tasks]`, of a batch."""
        losses = [(batch.type_weight * F.cross_entropy(output.logits, batch.y, reduction="none")).mean()]
        if "pointer" in self.tasks:
            errors = huber(
                output.pointer, encode_spans(batch.spans, self.length, batch.shown), _POINTER_DELTA
            )
            losses.append((batch.pointer_weight * (errors @ self.pointer_weights)).mean())
        if "span" in self.tasks and output.span_logits is not None:
            targets = span_targets(batch.spans, self.length, self.edge)
            errors = F.binary_cross_entropy_with_logits(
                output.span_logits, targets, reduction="none", pos_weight=self.positive
            )
            losses.append((batch.span_weight * pool(errors[..., None], batch.valid)[:, 0]).mean())
        return torch.stack(losses)

    def weighted(self, losses: Tensor) -> Tensor:
        """What is minimised."""
        return uncertainty_weighted(losses, self.log_variances).sum()

    @torch.no_grad()
    def judge(self, model: Jade, windows: _Windows, encoded: bool) -> tuple[Tensor, Tensor]:
        """The mean losses `[tasks]` over windows, and the accuracy."""
        model.eval()
        losses, right = torch.zeros_like(self.factors), torch.zeros_like(self.factors[0])
        for chunk in windows.chunks():
            output = (model.heads if encoded else model)(chunk.x, chunk.valid)
            losses += self.losses(output, chunk) * len(chunk.y)
            right += (output.logits.argmax(1) == chunk.y).sum()
        return losses / len(windows.y), right / len(windows.y)

    @torch.no_grad()
    def judge_each(self, model: Jade, windows: _Windows) -> NDArray[np.float64]:
        """`[n]`: what each window adds to the loss that is selected on; their mean is that loss."""
        model.eval()
        encoded = windows.encoded(model)
        each = [encoded.take(slice(i, i + 1)) for i in range(len(windows.y))]
        losses = [self.losses(model.heads(one.x, one.valid), one) @ self.factors for one in each]
        return torch.stack(losses).double().cpu().numpy()

    def named(self, values: Tensor) -> dict[str, float]:
        return dict(zip(self.tasks, values.tolist(), strict=True))


def fit_jade(
    model: Jade,
    examples: Examples,
    settings: FinetuneConfig,
    *,
    seed: int,
    device: torch.device,
    validation: Examples | None = None,
    augmentation: Augmentation | None = None,
    report: Callable[[EpochRecord], None] | None = None,
) -> FitResult:
    """Trains the model where it is, on few windows; on a CPU with one thread.

    The tasks are the type, by cross-entropy; where there are spans the pointer, by the Huber error (δ = 0.08) of their
    center plus 0.8 times that of their length; and for a model with a span head each bar, by cross-entropy, bars in
    spans as heavy as all others. Learned homoscedastic weights combine them (Kendall, Gal & Cipolla, CVPR 2018). On a
    CPU the same seed gives the same bits.

    Args:
        model: From :func:`new_model`. Ends on `device`, in evaluation mode, with the best epoch's weights.
        examples: What to learn from.
        settings: How. `freeze` speaks of the model's encoder, whether it was pre-trained or not.
        seed: Of the order of windows, the dropout, and the augmentation.
        device: Where to train.
        validation: Windows that choose the learning rate and the epoch. Without them all epochs are trained, at one
            learning rate.
        augmentation: Serves each window `copies` times an epoch, each time with a draw of its own.
        report: Called after each epoch. What it raises ends the training.

    Raises `NotFiniteError` when training diverges.
    """
    count, length = examples.valid.shape
    layers = len(model.encoder.layers)
    factors = _class_factors(settings, examples, model.architecture.num_classes)
    tasks = _tasks(model, examples)
    positive = _positive_weight(examples, settings.span_edge) if "span" in tasks else 1.0
    model.to(device)
    forget_peak_memory(device)
    objective = _Objective(tasks, length, settings.span_edge, positive).to(device)
    train = _Windows.of(examples, factors, device)
    held_out = None if validation is None else _Windows.of(validation, factors, device)
    if augmentation is not None:
        augmentation = augmentation.to(device).train()
    copies = 1 if augmentation is None else augmentation.copies

    optimizer = torch.optim.AdamW(
        [
            {"params": list(model.parameters()), "weight_decay": settings.weight_decay},
            {"params": [objective.log_variances], "weight_decay": 0.0},
        ],
        lr=settings.lr,
    )
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=settings.lr_factor, patience=settings.lr_patience, min_lr=settings.min_lr
    )
    parameters = [*model.parameters(), objective.log_variances]
    order = WindowOrder(copies * count, settings.batch_size, shuffle=True, drop_last=False)

    epochs: list[EpochRecord] = []
    best, best_epoch, best_weights = float("inf"), 0, None
    frozen, thawed_at, stopped = -1, 0, False
    with one_thread():
        for epoch in range(settings.epochs):
            start = perf_counter()
            if frozen != (frozen := frozen_layers(settings, layers, epoch)):
                thawed_at = epoch
                # A frozen encoder says the same of a window each time: it need not be asked again.
                encoded = frozen == layers and augmentation is None
                windows = train.encoded(model) if encoded else train
                judged = held_out.encoded(model) if encoded and held_out is not None else held_out
            model.train()
            freeze_layers(model.encoder, frozen)
            total = torch.zeros_like(objective.factors)
            places = torch.from_numpy(order.numbers(seed, epoch, 0, order.batches)).to(device)
            for step, place in enumerate(torch.split(places, settings.batch_size)):
                number = place % count
                batch = windows.take(number)
                if augmentation is not None:
                    keys = window_keys(seed, epoch, number, place // count)
                    x, spans, valid = augmentation(batch.x, keys, batch.spans, batch.valid)
                    batch = batch._replace(x=x, spans=spans, valid=valid, shown=valid)
                seed_dropout(model, seed, epoch, step)
                losses = objective.losses((model.heads if encoded else model)(batch.x, batch.valid), batch)
                optimizer.zero_grad()
                objective.weighted(losses).backward()  # type: ignore[no-untyped-call]
                norm = nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
                if not norm.isfinite():
                    raise NotFiniteError(epoch * order.batches + step, "gradient", [], 0, None)
                optimizer.step()
                total += losses.detach() * len(place)

            lr = optimizer.param_groups[0]["lr"]
            record = EpochRecord(
                epoch,
                lr,
                frozen,
                objective.named(total / len(places)),
                None,
                None,
                None,
                perf_counter() - start,
            )
            if judged is not None:
                losses, accuracy = objective.judge(model, judged, encoded)
                loss = float(losses @ objective.factors)
                record = record._replace(
                    validation_losses=objective.named(losses),
                    validation_loss=loss,
                    validation_accuracy=float(accuracy),
                    seconds=perf_counter() - start,
                )
                plateau.step(loss)
                if loss < best:
                    best, best_epoch = loss, epoch
                    best_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
                # A layer that has just thawed gets its time.
                stopped = epoch - max(best_epoch, thawed_at) >= settings.patience
            else:
                best_epoch = epoch
            epochs.append(record)
            if report is not None:
                report(record)
            if stopped:
                break

    if best_weights is not None:
        model.load_state_dict(best_weights)
    each = None
    if held_out is not None:
        with one_thread():
            each = objective.judge_each(model, held_out)
    if model.span_head is not None:
        # Bars in spans weighed more while it learned: with that taken back, its logits are log-odds.
        with torch.no_grad():
            model.span_head.bias.sub_(math.log(positive))
    model.requires_grad_(True).zero_grad()
    model.eval()
    variances = objective.named(objective.log_variances)
    return FitResult(tuple(epochs), best_epoch, stopped, variances, each, peak_memory(device))


def _class_factors(settings: FinetuneConfig, examples: Examples, classes: int) -> NDArray[np.float64]:
    """How much more each class counts."""
    given = settings.class_weight
    if given is None:
        return np.ones(classes)
    if given == "balanced":
        share = np.bincount(examples.y, examples.weight, classes)
        # A class that is not there weighs nothing anywhere.
        balanced: NDArray[np.float64] = np.divide(
            share.sum() / classes, share, out=np.zeros(classes), where=share > 0
        )
        return balanced
    if len(given) != classes:
        raise ConfigError(
            "class_weight",
            f"has {len(given)} factors for {classes} classes; give one for each, in their order",
        )
    return np.array(given, np.float64)


def _seen_spans(examples: Examples) -> NDArray[np.bool_]:
    """`[n]`: whether there is a span of which a bar may be seen."""
    inside = in_spans(examples.spans, examples.valid.shape[1])
    return np.asarray((inside & examples.valid).any(axis=1))


def _tasks(model: Jade, examples: Examples) -> tuple[str, ...]:
    """What can be learned: spans only where some window has one."""
    if not _seen_spans(examples).any():
        return TASKS[:1]
    return TASKS if model.span_head is not None else TASKS[:2]


def _positive_weight(examples: Examples, edge: float) -> float:
    """What has bars within spans weigh as much as all others; 1 where there are none of either."""
    targets = span_targets(torch.from_numpy(examples.spans), examples.valid.shape[1], edge).numpy()
    weights = examples.valid * examples.weight[:, None]
    inside = float((targets * weights).sum())
    outside = float(weights.sum() - inside)
    return outside / inside if inside > 0 and outside > 0 else 1.0
