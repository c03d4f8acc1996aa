"""Jade: the encoder and its heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from moola.models.dropout import Dropout
from moola.models.encoder import Encoder, pool
from moola.models.spans import decode_spans, most_likely_spans
from moola.settings.models import Architecture, Config, ModelConfig, load_config
from moola.settings.sections import parse_config

if TYPE_CHECKING:
    from moola.models.weights import Origin

__all__ = ["Jade", "JadeCompact", "JadeOutput", "build_model"]


class JadeOutput(NamedTuple):
    """The outputs of the heads for a batch."""

    logits: Tensor
    """`[B, C]`, one a class."""
    pointer: Tensor
    """`[B, 2]`, the span's center and length in [0, 1]; see :func:`moola.models.decode_spans`."""
    span_logits: Tensor | None
    """`[B, K]`, the log-odds that each bar lies in the span; None without `span_head`."""

    def spans(self, length: int, valid: Tensor | None = None) -> Tensor:
        """The first and last bar of each span, `[B, 2]`: from the span head if there is one, else from the pointer.

        Spans lie within the visible part of the window. Hidden bars before and after that part only shift its span.
        Hidden bars inside it cut the LSTM's memory in two, and the pointer counts them as bars.

        Args:
            length: K, including hidden bars.
            valid: `[B, K]`, the visible bars; all if not given.
        """
        if self.span_logits is not None:
            return most_likely_spans(self.span_logits, valid)
        return decode_spans(self.pointer, length, valid)


class Jade(nn.Module):
    """A bidirectional LSTM with a head for the type of a window and heads for its span.

    Args:
        input_size: D, columns of the input.
        architecture: Fields of :class:`moola.settings.models.Architecture`, such as `hidden_size=96`. The defaults are
            those of `jade`.

    Raises `ConfigError`, which names the parameter.
    """

    defaults: Mapping[str, Any] = {}
    origin: Origin | None = None
    """Where its weights come from, if they were loaded."""

    def __init__(self, input_size: int = 4, **architecture: Any) -> None:
        super().__init__()
        self.architecture = parse_config(Architecture, {**self.defaults, **architecture}, "")
        self.encoder = Encoder(input_size, self.architecture)
        self.type_head = self._head(self.architecture.num_classes)
        self.pointer_head = self._head(2)
        self.span_head = nn.Linear(self.encoder.output_size, 1) if self.architecture.span_head else None

    def _head(self, outputs: int) -> nn.Sequential:
        width = self.encoder.output_size
        return nn.Sequential(
            nn.Linear(width, self.encoder.hidden_size // 2),
            nn.ReLU(),
            Dropout(self.architecture.dense_dropout),
            nn.Linear(self.encoder.hidden_size // 2, outputs),
        )

    def forward(self, x: Tensor, valid: Tensor | None = None) -> JadeOutput:
        """The heads' outputs for windows `x [B, K, D]`. Bars where `valid [B, K]` is False are hidden."""
        return self.heads(self.encoder(self.encoder.standardise(x), valid), valid)

    def heads(self, encoded: Tensor, valid: Tensor | None = None) -> JadeOutput:
        """The heads' outputs for encoded windows, `[B, K, 2H]`."""
        pooled = pool(encoded, valid)
        spans = self.span_head(encoded).squeeze(2) if self.span_head is not None else None
        return JadeOutput(self.type_head(pooled), torch.sigmoid(self.pointer_head(pooled)), spans)


class JadeCompact(Jade):
    """Jade for few labels: half the width, more dropout."""

    defaults: Mapping[str, Any] = {
        "hidden_size": 64,
        "input_dropout": 0.3,
        "recurrent_dropout": 0.7,
        "dense_dropout": 0.6,
    }


def build_model(config: str | Config | ModelConfig | Mapping[str, Any], input_size: int = 4) -> Jade:
    """Builds the model of a configuration.

    Args:
        config: The name of a shipped configuration, the path of a YAML file, a mapping as such a file holds it, a
            `Config` or a `ModelConfig`.
        input_size: D, columns of the input.

    Raises `ConfigError`, which names the key.
    """
    if not isinstance(config, Config | ModelConfig):
        config = load_config(config)
    model = config.model if isinstance(config, Config) else config
    return Jade(input_size, **model.architecture.model_dump())
