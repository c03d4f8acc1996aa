"""One step of pre-training, and the learning rate at each step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from moola.models.dropout import seed_dropout
from moola.settings.training import PretrainConfig
from moola.training.job import Batch, Job

__all__ = ["Step", "learning_rate"]


def learning_rate(step: int, steps: int, settings: PretrainConfig) -> float:
    """Of this step, counted from 0: a straight rise, then half a cosine. Loshchilov & Hutter, ICLR 2017."""
    warmup = max(1, round(settings.warmup_share * steps))
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    low = settings.min_lr_share
    return settings.lr * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


class Step:
    """One step of training: forward, backward, clip, update. A step that is not finite is not taken."""

    def __init__(self, job: Job, stopped: Tensor) -> None:
        """`stopped` is set by the first step that is not finite; from then on the fused optimizer takes none."""
        self.job, self.stopped = job, stopped
        if job.placement.device.type == "cuda":
            job.optimizer.found_inf = self.stopped  # type: ignore[attr-defined]

    def __call__(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """The batch's sums over all ranks, and the norm of the gradient; `step` counts from 0."""
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
        """What every step does on the device."""
        job = self.job
        job.optimizer.zero_grad(set_to_none=True)
        loss, sums = job.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(job.parameters, job.settings.clip_norm)
        good = torch.isfinite(sums).all() & torch.isfinite(norm)
        self.stopped.copy_(torch.maximum(self.stopped, (~good).float()))
        # On a GPU the host does not wait: the optimizer itself reads `stopped`, and the log reports it soon after.
        if job.placement.device.type != "cpu" or not self.stopped:
            job.optimizer.step()
        return sums, norm
