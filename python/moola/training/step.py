"""A step of pre-training, and the learning rate of each step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from moola.models.dropout import seed_dropout
from moola.settings.training import PretrainConfig
from moola.training.job import Batch, Job

__all__ = ["Step", "learning_rate"]


def learning_rate(step: int, steps: int, settings: PretrainConfig) -> float:
    """The learning rate of a step, counted from 0: a linear warm-up, then half a cosine.

    Source: Loshchilov & Hutter, ICLR 2017.
    """
    warmup = max(1, round(settings.warmup_share * steps))
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    low = settings.min_lr_share
    return settings.lr * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


class Step:
    """A training step: forward, backward, clip, update. Weights do not change if a value is not finite."""

    def __init__(self, job: Job, stopped: Tensor) -> None:
        """The first step that is not finite sets `stopped` to 1. From then on, no step changes the weights."""
        self.job, self.stopped = job, stopped
        if job.placement.device.type == "cuda":
            job.optimizer.found_inf = self.stopped  # type: ignore[attr-defined]

    def __call__(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Trains on a batch. Returns its sums `[D + 1]` over all ranks, and the norm of the gradient.

        Args:
            batch: Windows, masks and valid bars.
            step: The number of the step, from 0.

        Raises `NotFiniteError` on a CPU; on a GPU the log raises it later.
        """
        job = self.job
        lr = learning_rate(step, job.steps, job.settings)
        for group in job.optimizer.param_groups:
            group["lr"] = lr
        seed_dropout(job.objective, job.seed, step, job.placement.rank)
        sums, norm = self.update(batch)
        if job.placement.device.type == "cpu" and self.stopped:
            raise job.not_finite(step + 1, "gradient" if torch.isfinite(sums).all() else "loss")
        return sums, norm

    def update(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The part of a step that runs on the device."""
        job = self.job
        job.optimizer.zero_grad(set_to_none=True)
        loss, sums = job.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(job.parameters, job.settings.clip_norm)
        good = torch.isfinite(sums).all() & torch.isfinite(norm)
        self.stopped.copy_(torch.maximum(self.stopped, (~good).float()))
        # On a GPU the host does not wait: the fused optimizer reads `stopped`, and the log reports it later.
        if job.placement.device.type != "cpu" or not self.stopped:
            job.optimizer.step()
        return sums, norm
