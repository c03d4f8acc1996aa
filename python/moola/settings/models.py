"""What a model is, and the whole of a model YAML file. Needs no torch."""

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
    """Of the features."""
    recurrent_dropout: _Dropout = 0.65
    """Of the sequence between two layers."""
    dense_dropout: _Dropout = 0.5
    """Within the heads."""
    use_position: Annotated[bool, Field(strict=True)] = False
    """Whether the model appends t/(K − 1) to its input."""
    num_classes: Annotated[int, Field(ge=2, le=10_000, strict=True)] = 2
    span_head: Annotated[bool, Field(strict=True)] = False
    """Whether a head says for each bar how likely it lies in the span, beside the pointer."""


class ModelConfig(Section):
    """A name for people, and the architecture."""

    name: Annotated[str, Field(min_length=1, max_length=100)] = "jade"
    architecture: Architecture = Architecture()


class TrainingConfig(Section):
    """Training, by kind."""

    pretrain: PretrainConfig = PretrainConfig()
    finetune: FinetuneConfig = FinetuneConfig()


class Config(Section):
    """All that a YAML file in `configs/model/` may hold."""

    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    augmentation: AugmentationConfig | None = AugmentationConfig()
    """Of windows in fine-tuning; null has none."""
    gates: GatesConfig = GatesConfig()
    """What its runs must pass."""


def shipped_models() -> list[str]:
    """The names of the configurations that come with moola."""
    folder = resources.files("moola") / "settings" / "configs" / "model"
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def load_config(
    model: str | os.PathLike[str] | Mapping[str, Any] = "jade", overrides: Iterable[str] = ()
) -> Config:
    """The configuration of a model, checked.

    Args:
        model: The name of one that comes with moola, the path of a YAML file, or what such a file holds.
        overrides: Values that take the place of those there, each as `training.pretrain.lr=3e-4`.

    Raises `ConfigError`, which names the key, for a key that does not exist, a wrong type or a value out of range,
    and `InputError` for a file that cannot be read.
    """
    values = _copy(model if isinstance(model, Mapping) else read_yaml(_path_of(model)))
    for override in overrides:
        key, equals, text = override.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise ConfigError(
                "set", f"{override!r} is no KEY=VALUE; write for example training.pretrain.lr=3e-4"
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
        problem = (
            f"{model!r} is none of {', '.join(names)}, and no file either; give one of them, or a YAML file"
        )
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
        raise ConfigError(key, f"{text!r} is no YAML value; quote it, or write for example {key}=3") from None
