"""What a model is and how it is trained, as it stands in a YAML file. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from moola.augment.config import AugmentationConfig
from moola.config import parse_config, read_yaml
from moola.errors import ConfigError

__all__ = [
    "Architecture",
    "Config",
    "FinetuneConfig",
    "GatesConfig",
    "ModelConfig",
    "PretrainConfig",
    "TrainingConfig",
    "load_config",
    "shipped_models",
]

_Count = Annotated[int, Field(ge=1, le=1 << 40, strict=True)]
_Steps = Annotated[int, Field(ge=0, le=1 << 40, strict=True)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Dropout = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
_Score = Literal[
    "macro_f1",
    "balanced_accuracy",
    "log_loss",
    "calibration_error",
    "span_iou",
    "span_hits",
    "center_error",
    "length_error",
    "validation_loss",
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Architecture(_Section):
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


class ModelConfig(_Section):
    """A name for people, and the architecture."""

    name: Annotated[str, Field(min_length=1, max_length=100)] = "jade"
    architecture: Architecture = Architecture()


class PretrainConfig(_Section):
    """How a masked autoencoder is trained."""

    epochs: _Count = 50
    batch_size: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 256
    """Windows a step, on each rank."""
    lr: _Positive = 1e-3
    """Where warm-up ends and the cosine begins."""
    min_lr_share: _Share = 0.01
    """Where the cosine ends, as a share of `lr`."""
    warmup_share: _Share = 0.05
    """The share of all steps in which the learning rate rises."""
    weight_decay: _NotNegative = 1e-4
    clip_norm: _Positive = 1.0
    """The largest norm of the gradient."""
    patience: _Count = 10
    """Epochs without a better validation loss after which training stops."""
    stride: _Count = 52
    """Bars from one window to the next."""
    window_length: Annotated[int, Field(ge=2, le=100_000, strict=True)] | None = None
    """K; the store's own if not given."""
    windows_per_epoch: _Count | None = None
    """Windows in an epoch, over all ranks; all there are if not given."""
    mask_ratio: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.15
    mask_strategy: Literal["random", "patch"] = "random"
    patch_size: _Count = 10
    extra: tuple[str, ...] = ()
    """Kept columns as inputs, standardised."""
    checkpoint_every: _Steps = 0
    """Steps from one checkpoint to the next; 0 has one an epoch. Each epoch ends with one."""
    log_every: _Count = 20
    """Steps from one reading of the device's losses to the next."""
    cuda_graph: Annotated[bool, Field(strict=True)] = False
    """Whether a whole step is captured and replayed, on a GPU."""


class FinetuneConfig(_Section):
    """How a model is fine-tuned on labelled windows. The defaults are for few of them."""

    epochs: _Count = 60
    """At most; without validation windows all of them."""
    batch_size: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 16
    lr: _Positive = 1e-4
    lr_factor: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.7
    """What the learning rate is multiplied by where the validation loss stands still."""
    lr_patience: _Steps = 8
    """Epochs without a better validation loss after which it is."""
    min_lr: _NotNegative = 1e-7
    weight_decay: _NotNegative = 1e-4
    clip_norm: _Positive = 1.5
    """The largest norm of the gradient."""
    patience: _Count = 15
    """Epochs without a better validation loss after which training stops."""
    class_weight: Literal["balanced"] | tuple[_NotNegative, ...] | None = None
    """`balanced` has each class weigh the same in the loss; or a factor for each class, in their order."""
    freeze: Literal["none", "always"] | _Count = "none"
    """Whether a pre-trained encoder stays as it is: never, always, or for so many epochs. Others are never frozen.

    Heads alone learn little from few labels: see the table of few labels in `benches/results`."""
    unfreeze_every: _Steps = 0
    """Epochs from one layer's thaw to the next, from the top; 0 thaws all of them at once. Of an encoder that is frozen
    for some epochs."""
    span_edge: _Positive = 3.0
    """Bars in which the span head's targets fall from 1 to 0 around a span's end."""


class TrainingConfig(_Section):
    """Training, by kind."""

    pretrain: PretrainConfig = PretrainConfig()
    finetune: FinetuneConfig = FinetuneConfig()


class GatesConfig(_Section):
    """What a run must pass, for :func:`moola.gates.check_gates`; null takes a gate away.

    The defaults are those of `configs/gates.yaml`.
    """

    parameters_per_window: _Positive | None = 1000.0
    """Fewer; of a cross-validation, over the windows of all folds together."""
    epoch_seconds: _Positive | None = 180.0
    """Less; of the slowest epoch."""
    device_memory: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 1e9
    """More; bytes allocated on a GPU at most. A GPU that trains in less is not made use of."""
    validation_spread: _Positive | None = 0.05
    """Less; (highest − lowest)/lowest of the validation loss over the last epochs, five at most."""
    calibration_error: _Share | None = 0.1
    """Less; more is let pass where luck alone gives as much."""
    regression: tuple[_Score, ...] | None = ("macro_f1", "log_loss", "span_hits", "validation_loss")
    """What must not be worse than in a run that is named, by more than its interval."""


class Config(_Section):
    """All that a YAML file in `configs/model/` may hold."""

    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    augmentation: AugmentationConfig | None = AugmentationConfig()
    """Of windows in fine-tuning; null has none."""
    gates: GatesConfig = GatesConfig()
    """What its runs must pass."""


def shipped_models() -> list[str]:
    """The names of the configurations that come with moola."""
    folder = resources.files("moola") / "configs" / "model"
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
        return Path(str(resources.files("moola") / "configs" / "model" / f"{model}.yaml"))
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
