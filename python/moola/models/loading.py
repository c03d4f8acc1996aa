"""Models from the runs that trained them."""

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
    """The encoder of a run of either kind, on the CPU and in evaluation mode.

    `encoder.origin.features` says what its input must be: before it is fed from a store, see
    `encoder.origin.features.require(FeatureIdentity.of(store, extra), source)`.

    Args:
        run: Its directory, for the best weights, or a weights file.

    Raises `WeightsError`, naming the file, when there is none, or it is foreign or damaged.
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
    """The fine-tuned model of a run, on the CPU and in evaluation mode; `model.origin` says what it goes with.

    Raises `WeightsError`, as :func:`load_encoder` does, also for a run that has pre-trained an encoder alone.
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
        raise WeightsError(path, "does not say what model it is", "Install the moola that wrote it") from None


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError:
        problem = "its tensors are not those of the model it describes"
        raise WeightsError(path, problem, "Restore it from a copy, or train again") from None
    module.eval()
