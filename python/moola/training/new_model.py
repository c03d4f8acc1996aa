"""New Jade models: initial weights, a pre-trained encoder, and frozen layers."""

from __future__ import annotations

import threading

import torch
from torch import nn

from moola.errors import ConfigError
from moola.models.encoder import Encoder
from moola.models.jade import Jade, build_model
from moola.settings.models import ModelConfig
from moola.settings.training import FinetuneConfig

__all__ = ["check_shape", "freeze_layers", "frozen_layers", "new_model"]


def check_shape(config: ModelConfig, encoder: Encoder) -> None:
    """Raises `ConfigError`, naming the parameter, if an encoder has another shape than the model."""
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
    """A model with random initial weights, and with the encoder's weights if one is given.

    The state of torch's own generator does not change.

    Args:
        config: The configuration of the model.
        input_size: D, columns of the input.
        seed: The seed for the initial weights.
        encoder: A pre-trained encoder, whose weights are copied.

    Raises `ConfigError` if the encoder has another shape or another number of features.
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


# Threads that make models at the same time take turns with torch's generator.
_INITIALISING = threading.Lock()


def _initialise(model: Jade) -> None:
    """Draws initial weights with which few labels and few steps suffice.

    Recurrent weights are orthogonal (Saxe, McClelland & Ganguli, ICLR 2014). Other weights are scaled by the widths of
    their layers (Glorot & Bengio, AISTATS 2010; He et al., ICCV 2015). The encoder's biases are 0. With torch's default
    weights and random biases, small models learned less in the same number of steps, and sometimes nothing.
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
        # At first, pooled states differ little between windows. With a bias of 0, a few steps in one direction can
        # leave a unit at 0 for all windows. One fit in thirty lost all units of a narrow head this way, for good.
        nn.init.constant_(hidden.bias, 0.2)
        nn.init.zeros_(out.bias)


def frozen_layers(settings: FinetuneConfig, layers: int, epoch: int) -> int:
    """The number of an encoder's layers that are frozen in an epoch, counted from the bottom."""
    if settings.freeze == "none":
        return 0
    if settings.freeze == "always" or epoch < settings.freeze:
        return layers
    if not settings.unfreeze_every:
        return 0
    return max(0, layers - 1 - (epoch - settings.freeze) // settings.unfreeze_every)


def freeze_layers(encoder: Encoder, frozen: int) -> None:
    """Freezes the lowest `frozen` layers and trains the others. Frozen layers and their inputs have no dropout."""
    for i, layer in enumerate(encoder.layers):
        layer.requires_grad_(i >= frozen).train(i >= frozen)
    encoder.input_dropout.train(frozen == 0)
    encoder.between.train(frozen < len(encoder.layers))
