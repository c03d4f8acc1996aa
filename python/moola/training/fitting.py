"""Fine-tuning: trains a model for types and spans on a few hundred labelled windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from moola.augment import Augmentation, AugmentationConfig, window_keys
from moola.data.order import WindowOrder
from moola.devices.placement import forget_peak_memory, peak_memory
from moola.devices.threads import one_thread
from moola.errors import ConfigError, NotFiniteError
from moola.models.dropout import seed_dropout
from moola.models.jade import Jade
from moola.settings.training import FinetuneConfig
from moola.training.examples import Examples, TrainingWindows, seen_spans
from moola.training.new_model import freeze_layers, frozen_layers
from moola.training.targets import TASKS, FitObjective, span_targets

__all__ = ["EpochRecord", "FitResult", "augmentation_for", "fit_jade", "spread_of_last"]


# The spread of the validation loss is reported over this many last epochs.
_LAST = 5


class EpochRecord(NamedTuple):
    """The results of one epoch. Validation values are None without validation windows."""

    epoch: int
    """The epoch's number, from 0."""
    lr: float
    """The learning rate."""
    frozen: int
    """The number of frozen encoder layers, counted from the bottom."""
    losses: dict[str, float]
    """Each task's mean training loss, unweighted, with the dropout of layers that train."""
    validation_losses: dict[str, float] | None
    """Each task's mean validation loss, unweighted."""
    validation_loss: float | None
    """The loss for early stopping and for choosing the epoch: the sum of task losses times exp(−s), s the initial log
    σ² of the task."""
    validation_accuracy: float | None
    """The share of validation windows whose class is predicted."""
    seconds: float
    """The duration of the epoch."""


@dataclass(frozen=True)
class FitResult:
    """The results of a fine-tuning."""

    epochs: tuple[EpochRecord, ...]
    """The record of each epoch, in order."""
    best_epoch: int
    """The epoch of the model's weights: the one with the lowest validation loss; without validation, the last."""
    stopped_early: bool
    """Whether training stopped because the validation loss no longer fell."""
    log_variances: dict[str, float]
    """Each task's learned s = log σ²."""
    window_losses: NDArray[np.float64] | None = None
    """`[m]`: each validation window's loss in the best epoch. Their mean is that epoch's validation loss."""
    memory: dict[str, int] = field(default_factory=dict)
    """Peak memory of this fit, from :func:`moola.devices.placement.peak_memory`."""

    def record(self) -> dict[str, Any]:
        """A line of `metrics.jsonl` for monitoring; loss and spread are None without validation.

        Values that differ between equal runs are in `timing`: `seconds` for all epochs, `slowest_epoch`, and the bytes
        on a GPU.
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
    """(highest − lowest)/lowest of the last five losses; 0 if the lowest is not positive."""
    last = losses[-_LAST:]
    return (max(last) - min(last)) / min(last) if min(last) > 0 else 0.0


def augmentation_for(examples: Examples, config: AugmentationConfig) -> Augmentation:
    """The augmentation for these windows. Each feature's deviation and range come from their valid bars."""
    bars = examples.X[examples.valid].astype(np.float64)
    ranges = np.stack([bars.min(axis=0), bars.max(axis=0)], axis=1)
    return Augmentation(bars.std(axis=0), ranges, config)


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
    """Trains a model on few windows, in place. On a CPU it uses one thread, and the same seed gives the same bits.

    Up to three tasks are trained:

    - type: cross-entropy of the class;
    - pointer, if any window has a span: the Huber loss (δ = 0.08) of the span's center, plus 0.8 times that of its
      length;
    - span, if the model also has a span head: cross-entropy of each bar, where the bars in spans together weigh as
      much as all others.

    Learned homoscedastic weights combine the losses (Kendall, Gal & Cipolla, CVPR 2018).

    Args:
        model: A model from :func:`new_model`. Ends on `device`, in evaluation mode, with the best epoch's weights.
        examples: The training windows.
        settings: The training settings. `freeze` applies to the model's encoder, pre-trained or not.
        seed: The seed for the order of windows, dropout and augmentation.
        device: The device to train on.
        validation: Windows that choose the learning rate and the epoch. Without them, training runs all epochs at one
            learning rate.
        augmentation: Serves each window `copies` times an epoch, each time with a new draw.
        report: Called after each epoch. An exception from it ends the training.

    Raises `NotFiniteError` if a gradient is not finite, and `ConfigError` for class weights that do not match the
    classes.
    """
    count, length = examples.valid.shape
    layers = len(model.encoder.layers)
    factors = _class_factors(settings, examples, model.architecture.num_classes)
    tasks = _tasks(model, examples)
    positive = _positive_weight(examples, settings.span_edge) if "span" in tasks else 1.0
    model.to(device)
    forget_peak_memory(device)
    objective = FitObjective(tasks, length, settings.span_edge, positive).to(device)
    train = TrainingWindows.of(examples, factors, device)
    judged_on = None if validation is None else TrainingWindows.of(validation, factors, device)
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
                # A frozen encoder gives the same output for a window each time, so windows are encoded once.
                encoded = frozen == layers and augmentation is None
                windows = train.encoded(model) if encoded else train
                judged = judged_on.encoded(model) if encoded and judged_on is not None else judged_on
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
                # A layer that was just unfrozen gets the full patience.
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
    if judged_on is not None:
        with one_thread():
            each = objective.judge_each(model, judged_on)
    if model.span_head is not None:
        # Bars in spans had more weight in training. Without this factor, the logits are log-odds.
        with torch.no_grad():
            model.span_head.bias.sub_(math.log(positive))
    model.requires_grad_(True).zero_grad()
    model.eval()
    variances = objective.named(objective.log_variances)
    return FitResult(tuple(epochs), best_epoch, stopped, variances, each, peak_memory(device))


def _class_factors(settings: FinetuneConfig, examples: Examples, classes: int) -> NDArray[np.float64]:
    """`[C]`: the factor of each class in the type loss."""
    given = settings.class_weight
    if given is None:
        return np.ones(classes)
    if given == "balanced":
        share = np.bincount(examples.y, examples.weight, classes)
        # A class without examples gets 0.
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


def _tasks(model: Jade, examples: Examples) -> tuple[str, ...]:
    """The tasks to train. Pointer and span need a window with a visible span."""
    if not seen_spans(examples).any():
        return TASKS[:1]
    return TASKS if model.span_head is not None else TASKS[:2]


def _positive_weight(examples: Examples, edge: float) -> float:
    """The factor that gives bars in spans the same total weight as all others; 1 if one of the two has no weight."""
    targets = span_targets(torch.from_numpy(examples.spans), examples.valid.shape[1], edge).numpy()
    weights = examples.valid * examples.weight[:, None]
    inside = float((targets * weights).sum())
    outside = float(weights.sum() - inside)
    return outside / inside if inside > 0 and outside > 0 else 1.0
