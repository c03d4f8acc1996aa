"""A small temporal convolutional network."""

from __future__ import annotations

from time import perf_counter
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import skip_init

from moola.data.order import WindowOrder
from moola.devices.placement import forget_peak_memory, peak_memory
from moola.devices.threads import one_thread
from moola.estimators.base import LogitClassifier
from moola.estimators.windows import Standardiser, check_windows
from moola.models.dropout import Dropout, seed_dropout
from moola.settings.whole_numbers import whole_number
from moola.training.fitting import EpochRecord, FitResult

__all__ = ["TemporalConvolution"]

_KERNEL = 3
_CHUNK = 256


class TemporalConvolution(LogitClassifier):
    """Residual blocks of dilated causal convolutions, whose outputs are averaged over valid bars.

    Block b has dilation 2^b, so that four blocks span 61 bars. Hidden bars are zeros in every layer, like the padding
    before a window. The network predicts classes, not spans.

    Source: S. Bai, J. Z. Kolter and V. Koltun, "An empirical evaluation of generic convolutional and recurrent networks
    for sequence modeling", arXiv:1803.01271 (2018), section 3; without weight normalisation, and with the mean over
    bars in place of the last bar.

    Args:
        channels: The channels of each layer.
        blocks: The number of blocks in sequence.
        dropout: The dropout rate after each convolution.
        epochs: The number of epochs.
        lr: The initial learning rate of AdamW. It falls to 0 along half a cosine.
        batch_size: Windows in a batch.
        weight_decay: The weight decay of AdamW.
        seed: The seed for weights, order of windows and dropout. On a CPU, the same seed gives the same bits.
        device: The device to train on, such as `cpu` or `cuda`.

    Attributes: `classes_`; `n_features_in_` (D); `model_`; `result_` (a :class:`moola.training.fitting.FitResult`, with
    the record of each epoch).
    """

    def __init__(
        self,
        channels: int = 24,
        blocks: int = 4,
        dropout: float = 0.1,
        epochs: int = 40,
        lr: float = 3e-3,
        batch_size: int = 32,
        weight_decay: float = 1e-2,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.channels = channels
        self.blocks = blocks
        self.dropout = dropout
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.seed = seed
        self.device = device

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        spans: ArrayLike | None = None,
        valid_mask: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Trains a new network on `[n, K, D]`; spans are not used. Raises `ConfigError`, naming the argument."""
        channels, blocks, epochs, batch_size = (
            whole_number(name, getattr(self, name), 1)
            for name in ("channels", "blocks", "epochs", "batch_size")
        )
        seed = whole_number("seed", self.seed, 0)
        windows, valid, codes, weight = self._check_fit(X, y, valid_mask, sample_weight)
        self._standardise = Standardiser(windows, valid)
        device = torch.device(self.device)
        generator = torch.Generator().manual_seed(seed)
        self.model_ = _Network(
            self.n_features_in_, channels, blocks, len(self.classes_), self.dropout, generator
        ).to(device)
        forget_peak_memory(device)
        x = torch.from_numpy(self._standardise(windows, valid)).to(device)
        mask = torch.from_numpy(valid).to(device)
        target = torch.from_numpy(codes).to(device)
        weights = torch.tensor(weight / weight.mean(), dtype=torch.float32, device=device)
        optimizer = torch.optim.AdamW(self.model_.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        order = WindowOrder(len(x), batch_size, shuffle=True, drop_last=False)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * order.batches)
        records = []
        self.model_.train()
        with one_thread():
            for epoch in range(epochs):
                started, lr = perf_counter(), float(schedule.get_last_lr()[0])
                total = torch.zeros((), device=device)
                numbers = torch.from_numpy(order.numbers(seed, epoch, 0, order.batches)).to(device)
                for step, batch in enumerate(torch.split(numbers, batch_size)):
                    seed_dropout(self.model_, seed, epoch, step)
                    logits = self.model_(x[batch], mask[batch])
                    losses = F.cross_entropy(logits, target[batch], reduction="none")
                    optimizer.zero_grad()
                    weighted = losses * weights[batch]
                    weighted.mean().backward()  # type: ignore[no-untyped-call]
                    total += weighted.detach().sum()
                    nn.utils.clip_grad_norm_(self.model_.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                trained = {"type": float(total) / len(x)}
                records.append(EpochRecord(epoch, lr, 0, trained, None, None, None, perf_counter() - started))
        self.model_.eval()
        self.result_ = FitResult(tuple(records), epochs - 1, False, {}, memory=peak_memory(device))
        return self

    @torch.no_grad()
    def predict_logits(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> NDArray[np.float64]:
        """The logits of the classes: `[n, C]`."""
        check_is_fitted(self)
        windows, valid = check_windows(X, valid_mask, self.n_features_in_)
        device = next(self.model_.parameters()).device
        x = torch.from_numpy(self._standardise(windows, valid)).to(device)
        mask = torch.from_numpy(valid).to(device)
        with one_thread():
            logits = [
                self.model_(x[at : at + _CHUNK], mask[at : at + _CHUNK]) for at in range(0, len(x), _CHUNK)
            ]
        return torch.cat(logits).double().cpu().numpy()


class _Network(nn.Module):
    """The network: an input layer, the blocks, and a linear layer on the mean over valid bars."""

    def __init__(
        self,
        features: int,
        channels: int,
        blocks: int,
        classes: int,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.enter = _drawn(nn.Conv1d, generator, features, channels, 1)
        self.blocks = nn.ModuleList(_Block(channels, 2**block, dropout, generator) for block in range(blocks))
        self.leave = _drawn(nn.Linear, generator, channels, classes)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Logits `[B, C]` for windows `[B, K, D]` and their valid bars `[B, K]`."""
        mask = valid[:, None].to(x.dtype)
        y = self.enter(x.transpose(1, 2)) * mask
        for block in self.blocks:
            y = block(y, mask)
        mean = y.sum(dim=2) / mask.sum(dim=2)
        logits: Tensor = self.leave(mean)
        return logits


class _Block(nn.Module):
    """Two convolutions of the same dilation, with a residual connection."""

    def __init__(self, channels: int, dilation: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.reach = dilation * (_KERNEL - 1)
        self.layers = nn.ModuleList(
            _drawn(nn.Conv1d, generator, channels, channels, _KERNEL, dilation=dilation) for _ in range(2)
        )
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, channels, K]` for `x` of the same shape; `mask [B, 1, K]` is 0 at hidden bars."""
        y = x
        for layer in self.layers:
            # Zeros are added only before the first bar, so that no bar depends on a later one.
            y = self.drop(F.relu(layer(F.pad(y, (self.reach, 0))))) * mask
        return F.relu(x + y)


def _drawn(kind: type[nn.Module], generator: torch.Generator, *sizes: int, **options: int) -> nn.Module:
    """A layer with weights from this generator instead of torch's default one. Source: He et al., ICCV 2015."""
    layer: nn.Module = skip_init(kind, *sizes, **options)  # type: ignore[no-untyped-call]
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)  # type: ignore[arg-type]
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
