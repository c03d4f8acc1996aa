"""Fine-tuning: from a few hundred labelled windows to a type and a span."""

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


# Epochs over which the spread of the validation loss is reported.
_LAST = 5


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
    """The peak of memory from :func:`moola.devices.placement.peak_memory`, for this fit alone."""

    def record(self) -> dict[str, Any]:
        """The record for monitoring, a line of `metrics.jsonl`; losses and spread are None without validation.

        `slowest_epoch` and `seconds`, of all epochs, are in `timing`, with all that differs between runs; so are
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


def augmentation_for(examples: Examples, config: AugmentationConfig) -> Augmentation:
    """Augmentation of these windows: noise by each feature's deviation over their bars, within each one's range."""
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
                # A frozen encoder says the same of a window each time: it need not be asked again.
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
    if judged_on is not None:
        with one_thread():
            each = objective.judge_each(model, judged_on)
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


def _tasks(model: Jade, examples: Examples) -> tuple[str, ...]:
    """What can be learned: spans only where some window has one."""
    if not seen_spans(examples).any():
        return TASKS[:1]
    return TASKS if model.span_head is not None else TASKS[:2]


def _positive_weight(examples: Examples, edge: float) -> float:
    """What has bars within spans weigh as much as all others; 1 where there are none of either."""
    targets = span_targets(torch.from_numpy(examples.spans), examples.valid.shape[1], edge).numpy()
    weights = examples.valid * examples.weight[:, None]
    inside = float((targets * weights).sum())
    outside = float(weights.sum() - inside)
    return outside / inside if inside > 0 and outside > 0 else 1.0
