"""The encoder: a bidirectional LSTM over a window. Bars hidden by the mask cannot influence it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from moola.models.dropout import Dropout
from moola.models.spans import visible_stretch
from moola.settings.models import Architecture

if TYPE_CHECKING:
    from moola.models.weights import Origin

__all__ = ["Encoder", "pool"]

# Negative enough for a sigmoid of exactly 0 in every precision.
_SHUT = -1e4


class _BidirectionalLayer(nn.LSTM):
    """One bidirectional layer. A hidden step resets both states to zero.

    An extra input is 1 at hidden steps, and its weights shut the input, forget and output gates. So padding before or
    after a window changes nothing, exactly; padding inside a window cuts it in two.
    """

    shut: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, bidirectional=True)
        gates = torch.zeros(4, hidden_size)
        # In torch's order: input, forget, cell, output.
        gates[[0, 1, 3]] = _SHUT
        self.register_buffer("shut", gates.reshape(-1, 1), persistent=False)

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:  # type: ignore[override]
        """`x [K, B, D]`, `hidden [K, B]` bool → `[K, B, 2H]`."""
        if hidden is None:
            out: Tensor = super().forward(x)[0]
            return out
        x = torch.cat([x.masked_fill(hidden[..., None], 0), hidden[..., None].to(x.dtype)], dim=2)
        weights: list[Tensor] = []
        for end in ("", "_reverse"):
            into, within, *biases = (
                getattr(self, f"{name}_l0{end}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            weights += [torch.cat([into, self.shut], dim=1), within, *biases]
        start = x.new_zeros(2, x.shape[1], self.hidden_size)
        return torch.lstm(x, (start, start), weights, True, 1, 0.0, self.training, True, False)[0]


class Encoder(nn.Module):
    """Encodes windows as one vector a bar: `[B, K, D]` to `[B, K, 2H]`.

    Args:
        input_size: D, columns of the input.
        architecture: Its shape, see :class:`moola.settings.models.Architecture`.
    """

    shift: Tensor
    scale: Tensor
    origin: Origin | None = None
    """Where its weights come from, if they were loaded."""

    def __init__(self, input_size: int, architecture: Architecture) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = architecture.hidden_size
        self.use_position = architecture.use_position
        # Kept columns are standardised with these. Features need no standardising: shift 0, scale 1.
        self.register_buffer("shift", torch.zeros(input_size))
        self.register_buffer("scale", torch.ones(input_size))
        self.input_dropout = Dropout(architecture.input_dropout)
        self.between = Dropout(architecture.recurrent_dropout)
        width = input_size + self.use_position
        layers = []
        for _ in range(architecture.num_layers):
            layers.append(_BidirectionalLayer(width, architecture.hidden_size))
            width = 2 * architecture.hidden_size
        self.layers = nn.ModuleList(layers)

    @property
    def output_size(self) -> int:
        """2H."""
        return 2 * self.hidden_size

    def standardise(self, x: Tensor) -> Tensor:
        """`x [..., D]` with kept columns standardised by the mean and deviation of the training bars."""
        return (x - self.shift) / self.scale

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Encodes windows.

        Args:
            x: `[B, K, D]`, standardised.
            valid: `[B, K]` bool, False for hidden bars. A hidden bar changes no output at another bar, and its own
                output is zero. None if nothing is hidden, which is faster.

        Returns `[B, K, 2H]`.
        """
        x = self.input_dropout(x)
        if self.use_position:
            x = torch.cat([x, _positions(x, valid)[..., None]], dim=2)
        if valid is not None and valid.device.type == "cpu" and valid.all():
            # The check is cheap on a CPU. On other devices it would wait for the device.
            valid = None
        # The kernels expect time first.
        hidden = None if valid is None else ~valid.T
        y = x.transpose(0, 1)
        for i, layer in enumerate(self.layers):
            y = layer(y if i == 0 else self.between(y), hidden)
        return y.transpose(0, 1)


def _positions(x: Tensor, valid: Tensor | None) -> Tensor:
    """`[B, K]`: t/(K − 1) for each bar t of a window of K bars. Hidden bars before and after it are not counted."""
    bars = torch.arange(x.shape[1], device=x.device)
    if valid is None:
        return (bars.to(x.dtype) / max(len(bars) - 1, 1)).expand(x.shape[:2])
    begin, end = (bar[:, None] for bar in visible_stretch(valid))
    return (bars - begin).to(x.dtype) / (end - begin).clamp(min=1)


def pool(encoded: Tensor, valid: Tensor | None = None) -> Tensor:
    """The mean over valid bars: `[B, K, E]`, `[B, K]` → `[B, E]`; zero if none is valid."""
    if valid is None:
        return encoded.mean(dim=1)
    weights = valid[..., None].to(encoded.dtype)
    return (encoded * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
