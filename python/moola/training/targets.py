"""Targets and losses of fine-tuning: types, pointers and spans."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moola.models.encoder import pool
from moola.models.jade import Jade, JadeOutput
from moola.models.spans import encode_spans
from moola.training.examples import TrainingWindows
from moola.training.objective import huber, uncertainty_weighted

__all__ = ["TASKS", "FitObjective", "span_targets"]


TASKS = ("type", "pointer", "span")

# The initial s = log σ² of each task.
_LOG_VARIANCES = (0.0, -0.6, 0.0)

_POINTER_DELTA = 0.08

# The weights of center and length in the pointer loss.
_POINTER_WEIGHTS = (1.0, 0.8)


def span_targets(spans: Tensor, length: int, edge: float) -> Tensor:
    """The targets of the span head, `[B, K]`: 1 inside the span, 0 outside, and a linear slope at its ends.

    A span ends between two bars. The target falls from 1 to 0 over `edge` bars around that point, because labels do not
    mark ends to the bar. Windows without a span (−1 and −1) have 0 everywhere.

    Args:
        spans: `[B, 2]`, first and last bar.
        length: K.
        edge: The width of the slope in bars.
    """
    bars = torch.arange(length, device=spans.device)
    first, last = spans[:, :1], spans[:, 1:]
    inside = torch.minimum(bars - first, last - bars) + 0.5
    return torch.where(first < 0, 0.0, (0.5 + inside / edge).clamp(0, 1))


class FitObjective(nn.Module):
    """The losses of the tasks and their learned weights, which are not part of the model.

    Args:
        tasks: Some of `TASKS`, in their order.
        length: K.
        edge: The width of the slope in span targets, in bars.
        positive: The weight of bars in spans, relative to other bars.
    """

    factors: Tensor
    """`[tasks]`: exp(−s) of the initial s. These weigh the tasks in the validation loss."""
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

    def losses(self, output: JadeOutput, batch: TrainingWindows) -> Tensor:
        """The mean loss of each task over a batch: `[tasks]`."""
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
        """The value to minimise: the sum of the losses, weighted by the learned log-variances."""
        return uncertainty_weighted(losses, self.log_variances).sum()

    @torch.no_grad()
    def judge(self, model: Jade, windows: TrainingWindows, encoded: bool) -> tuple[Tensor, Tensor]:
        """The mean losses `[tasks]` over windows, and the accuracy. `encoded` says whether windows are encoded."""
        model.eval()
        losses, right = torch.zeros_like(self.factors), torch.zeros_like(self.factors[0])
        for chunk in windows.chunks():
            output = (model.heads if encoded else model)(chunk.x, chunk.valid)
            losses += self.losses(output, chunk) * len(chunk.y)
            right += (output.logits.argmax(1) == chunk.y).sum()
        return losses / len(windows.y), right / len(windows.y)

    @torch.no_grad()
    def judge_each(self, model: Jade, windows: TrainingWindows) -> NDArray[np.float64]:
        """`[n]`: each window's validation loss. Their mean is the loss for choosing the epoch."""
        model.eval()
        encoded = windows.encoded(model)
        each = [encoded.take(slice(i, i + 1)) for i in range(len(windows.y))]
        losses = [self.losses(model.heads(one.x, one.valid), one) @ self.factors for one in each]
        return torch.stack(losses).double().cpu().numpy()

    def named(self, values: Tensor) -> dict[str, float]:
        """Values `[tasks]` by the name of their task."""
        return dict(zip(self.tasks, values.tolist(), strict=True))
