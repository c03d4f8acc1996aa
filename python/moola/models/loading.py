"""Loads models from the runs that trained them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from moola.errors import WeightsError
from moola.models.encoder import Encoder
from moola.models.jade import Jade
from moola.models.weights import Origin, Weights, load_weights, weights_path

__all__ = ["load_encoder", "load_model"]


def load_encoder(run: str | os.PathLike[str]) -> Encoder:
    """The encoder of a pre-training or fine-tuning run, on the CPU and in evaluation mode.

    `encoder.origin.features` describes the input it needs. Before feeding it from a store, call
    `encoder.origin.features.require(FeatureIdentity.of(store, extra), source)`.

    Args:
        run: The run directory, whose best weights are loaded, or a weights file.

    Raises `WeightsError`, naming the file, if it is missing, damaged, or not written by moola.
    """
    path = weights_path(run)
    weights = load_weights(path)
    origin = _origin(path, weights)
    encoder = Encoder(origin.features.width, origin.model.architecture)
    mine = {n.removeprefix("encoder."): t for n, t in weights.tensors.items() if n.startswith("encoder.")}
    _fill(encoder, mine, path)
    encoder.origin = origin
    return encoder


def load_model(run: str | os.PathLike[str]) -> Jade:
    """The fine-tuned model of a run, on the CPU and in evaluation mode. `model.origin` describes the input it needs.

    Raises `WeightsError` as :func:`load_encoder` does, and for a run that only pre-trained an encoder.
    """
    path = weights_path(run)
    weights = load_weights(path)
    origin = _origin(path, weights)
    if origin.kind != "finetune":
        problem = "holds a pre-trained encoder, without trained heads"
        raise WeightsError(path, problem, "Fine-tune it with moola finetune --encoder")
    model = Jade(origin.features.width, **origin.model.architecture.model_dump())
    _fill(model, weights.tensors, path)
    model.origin = origin
    return model


def _origin(path: Path, weights: Weights) -> Origin:
    try:
        return Origin.parse(weights.record)
    except (ValueError, KeyError, TypeError):
        raise WeightsError(path, "does not describe its model", "Install the moola that wrote it") from None


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError:
        problem = "its tensors do not match the model it describes"
        raise WeightsError(path, problem, "Restore it from a copy, or train again") from None
    module.eval()
