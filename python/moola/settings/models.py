"""The configuration of a model, and the whole of a model YAML file. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from moola.errors import ConfigError
from moola.settings.augmentation import AugmentationConfig
from moola.settings.gates import GatesConfig
from moola.settings.sections import Section, parse_config
from moola.settings.training import FinetuneConfig, PretrainConfig
from moola.settings.yaml import read_yaml

__all__ = ["Architecture", "Config", "ModelConfig", "TrainingConfig", "load_config", "shipped_models"]

_Dropout = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class Architecture(Section):
    """The shape of a Jade model. The defaults are those of `jade`."""

    hidden_size: Annotated[int, Field(ge=2, le=8192, strict=True)] = 128
    """H, per direction."""
    num_layers: Annotated[int, Field(ge=1, le=16, strict=True)] = 2
    input_dropout: _Dropout = 0.25
    """Dropout of the features."""
    recurrent_dropout: _Dropout = 0.65
    """Dropout of the sequence between two layers."""
    dense_dropout: _Dropout = 0.5
    """Dropout within the heads."""
    use_position: Annotated[bool, Field(strict=True)] = False
    """Whether the model appends t/(K − 1) to its input."""
    num_classes: Annotated[int, Field(ge=2, le=10_000, strict=True)] = 2
    span_head: Annotated[bool, Field(strict=True)] = False
    """Whether a head gives each bar's probability of lying in the span, beside the pointer."""


class ModelConfig(Section):
    """A name for people, and the architecture."""

    name: Annotated[str, Field(min_length=1, max_length=100)] = "jade"
    architecture: Architecture = Architecture()


class TrainingConfig(Section):
    """Pre-training and fine-tuning."""

    pretrain: PretrainConfig = PretrainConfig()
    finetune: FinetuneConfig = FinetuneConfig()


class Config(Section):
    """Everything that a model YAML file may hold."""

    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    augmentation: AugmentationConfig | None = AugmentationConfig()
    """How windows are augmented in fine-tuning; null switches augmentation off."""
    gates: GatesConfig = GatesConfig()
    """The limits that its runs must keep."""


def shipped_models() -> list[str]:
    """The names of the configurations that ship with moola."""
    folder = resources.files("moola") / "settings" / "configs" / "model"
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def load_config(
    model: str | os.PathLike[str] | Mapping[str, Any] = "jade", overrides: Iterable[str] = ()
) -> Config:
    """The checked configuration of a model.

    Args:
        model: The name of a configuration that ships with moola, the path of a YAML file, or its mapping.
        overrides: Values that replace those of the configuration, each as `training.pretrain.lr=3e-4`.

    Raises `ConfigError`, which names the key, for an unknown key, a wrong type or a value out of range, and
    `InputError` for a file that cannot be read.
    """
    values = _copy(model if isinstance(model, Mapping) else read_yaml(_path_of(model)))
    for override in overrides:
        key, equals, text = override.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise ConfigError(
                "set", f"{override!r} is not KEY=VALUE; write for example training.pretrain.lr=3e-4"
            )
        section = values
        for part in path[:-1]:
            inner = section.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(key.strip(), f"{part} holds a value, not a section")
            section = inner
        section[path[-1]] = _value(key.strip(), text)
    return parse_config(Config, values, "")


def _path_of(model: str | os.PathLike[str]) -> str | Path:
    if isinstance(model, str) and model in (names := shipped_models()):
        return Path(str(resources.files("moola") / "settings" / "configs" / "model" / f"{model}.yaml"))
    if isinstance(model, str) and not model.endswith((".yaml", ".yml")) and not os.path.exists(model):
        problem = f"{model!r} is neither a file nor one of {', '.join(names)}; give one of these names, or a YAML file"
        raise ConfigError("model", problem)
    return Path(model)


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(k): _copy(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _value(key: str, text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        raise ConfigError(
            key, f"{text!r} is not a YAML value; quote it, or write for example {key}=3"
        ) from None
