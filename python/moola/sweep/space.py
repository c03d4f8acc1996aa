"""The space that a sweep searches, and candidates from it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from optuna import Trial
from pydantic import BaseModel, ConfigDict, Field, model_validator

from moola.errors import ConfigError
from moola.evaluation.metrics import METRICS, Metric
from moola.settings.models import load_config
from moola.settings.sections import parse_config
from moola.settings.yaml import read_yaml

__all__ = ["Choices", "Range", "Space", "build_candidate", "read_space"]

_Number: TypeAlias = Annotated[int, Field(strict=True)] | Annotated[float, Field(allow_inf_nan=False)]
_Value: TypeAlias = Annotated[bool, Field(strict=True)] | _Number | str | None
Values: TypeAlias = dict[str, Any]
"""A candidate: the values of its parameters, by name."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Section):
    """All numbers between two bounds, both included; whole numbers if both bounds are."""

    low: _Number
    high: _Number
    log: Annotated[bool, Field(strict=True)] = False
    """Whether values are drawn uniformly on a logarithmic scale."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ConfigError("high", f"is {self.high}; give more than low, which is {self.low}")
        if self.log and self.low <= 0:
            raise ConfigError("low", f"is {self.low}; with log, give more than 0")
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values to validate: if both bounds are valid, so is every number between them."""
        return self.low, self.high

    def suggest(self, trial: Trial, name: str) -> Any:
        """The trial's value."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


class Choices(_Section):
    """One of several values."""

    choices: Annotated[tuple[_Value, ...], Field(min_length=1)]

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values to validate: all choices."""
        return self.choices

    def suggest(self, trial: Trial, name: str) -> Any:
        """The trial's value."""
        return trial.suggest_categorical(name, self.choices)


class _SpaceFile(_Section):
    parameters: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    metric: str = "log_loss"
    prune: Annotated[bool, Field(strict=True)] = True


class Space(_Section):
    """A space of candidates, and how it is searched."""

    parameters: dict[str, Range | Choices]
    """By name. A name with dots is a key of the configuration, such as `training.finetune.lr`; others are parameters
    of the estimator."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """`tpe` searches near good earlier candidates, `random` draws independently, `grid` tries every combination."""
    metric: str = "log_loss"
    """The name of the metric that candidates are chosen by. Log loss depends on every probability; the macro-F1 of few
    windows takes only few values."""
    prune: bool = True
    """Whether to give up a candidate that is worse than the median of earlier ones after some of the inner folds."""

    @property
    def scored_by(self) -> Metric:
        """The metric that candidates are chosen by."""
        return METRICS[self.metric]

    def grid(self) -> list[Values] | None:
        """All combinations of a grid; None for other samplers."""
        from sklearn.model_selection import ParameterGrid

        if self.sampler != "grid":
            return None
        choices = {name: part.choices for name, part in self.parameters.items() if isinstance(part, Choices)}
        return list(ParameterGrid(choices))

    def suggest(self, trial: Trial) -> Values:
        """The candidate of a trial."""
        return {name: part.suggest(trial, name) for name, part in self.parameters.items()}

    def check_for(self, estimator: Any) -> None:
        """Raises `ConfigError`, which names the parameter, for one that the estimator or its configuration lacks."""
        for name, part in self.parameters.items():
            for value in part.ends:
                candidate = build_candidate(estimator, {name: value})
                if "." in name:
                    load_config(candidate.model, candidate.settings)


def read_space(space: Space | Mapping[str, Any] | str | os.PathLike[str]) -> Space:
    """A space, from a YAML file or its contents.

    ::

        sampler: tpe                    # or random, or grid, which takes only choices
        metric: log_loss                # the metric that candidates are chosen by
        parameters:
          training.finetune.lr: {low: 1.0e-5, high: 1.0e-2, log: true}
          model.architecture.hidden_size: {choices: [32, 64, 96]}

    The name of a space that comes with moola, such as `grid.yaml`, can be given if there is no file of that name.

    Raises `ConfigError`, which names the key, and `InputError` for a file that cannot be read.
    """
    if isinstance(space, Space):
        return space
    values = dict(space) if isinstance(space, Mapping) else read_yaml(_path_of(space))
    file = parse_config(_SpaceFile, values, "")
    if file.metric not in METRICS:
        raise ConfigError("metric", f"{file.metric!r} is not a metric; give one of {', '.join(METRICS)}")
    parameters = {
        name: parse_config(Choices if "choices" in part else Range, part, f"parameters.{name}")
        for name, part in file.parameters.items()
    }
    ranges = [name for name, part in parameters.items() if isinstance(part, Range)]
    if file.sampler == "grid" and ranges:
        raise ConfigError(
            "sampler", f"grid needs choices, and {ranges[0]} has a range; give choices there, or tpe"
        )
    return Space(**file.model_dump() | {"parameters": parameters})


def _path_of(space: str | os.PathLike[str]) -> Path:
    """The path of a given or shipped file. Raises `ConfigError`, which names the shipped ones, if there is none."""
    path, shipped = Path(space), resources.files("moola") / "settings" / "configs" / "sweep"
    if path.exists():
        return path
    names = sorted(entry.name for entry in shipped.iterdir() if entry.name.endswith(".yaml"))
    if str(space) in (own := {given: name for name in names for given in (name, name.removesuffix(".yaml"))}):
        return Path(str(shipped / own[str(space)]))
    problem = (
        f"there is no file {str(space)!r}; give a YAML file, or one that comes with moola: {', '.join(names)}"
    )
    raise ConfigError("space", problem)


def build_candidate(estimator: Any, values: Values) -> Any:
    """A new estimator with these values. Raises `ConfigError` for parameters that it lacks or that have no effect."""
    from sklearn.base import clone

    candidate = clone(estimator)
    known = candidate.get_params()
    settings = []
    for name, value in values.items():
        last = name.rpartition(".")[2]
        if last == name and name in known:
            candidate.set_params(**{name: value})
        elif last == name or "settings" not in known:
            kind = type(estimator).__name__
            raise ConfigError(
                f"parameters.{name}", f"is not a parameter of {kind}, which has {', '.join(known)}"
            )
        elif known.get(last) is not None:
            raise ConfigError(
                f"parameters.{name}", f"has no effect beside {last}={known[last]!r}; leave one of them out"
            )
        else:
            settings.append(f"{name}={json.dumps(value)}")
    if settings:
        candidate.set_params(settings=(*known["settings"], *settings))
    return candidate
