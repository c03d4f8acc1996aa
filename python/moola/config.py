"""What users set: the parameters of features, durations, and YAML files that hold them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moola.errors import ConfigError, InputError

__all__ = ["FeatureConfig", "feature_config", "parse_config", "parse_duration", "read_yaml"]

_Period = Annotated[int, Field(ge=1, le=10_000, strict=True)]
_Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class FeatureConfig(BaseModel):
    """Parameters of the feature sets; each set reads those it needs.

    Unknown names, wrong types and values out of range are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    range_ema_period: _Period = 20
    """Bars of the EMA of the range: α = 2/(period + 1)."""
    atr_period: _Period = 10
    """Bars of the average true range."""
    zigzag_k: _Positive = 1.2
    """ATRs by which a close must leave an extreme to confirm it as a swing."""
    swing_time_scale: _Positive = 105.0
    """Bars that count as 1 in the age of a swing."""
    zscore_period: _Period = 20
    """Bars of the z-scores."""
    warmup_bars: Annotated[int, Field(ge=0, le=1_000_000_000, strict=True)] = 105
    """Bars of a segment before its first valid one."""

    def astuple(self) -> tuple[int, int, float, float, int, int]:
        """The parameters in the order in which the engine takes them."""
        return (
            self.range_ema_period,
            self.atr_period,
            self.zigzag_k,
            self.swing_time_scale,
            self.zscore_period,
            self.warmup_bars,
        )


def feature_config(config: FeatureConfig | Mapping[str, Any]) -> FeatureConfig:
    """The configuration, checked. Raises `ConfigError`, which names the parameter."""
    if isinstance(config, FeatureConfig):
        return config
    if not isinstance(config, Mapping):
        raise TypeError(f"config must be a FeatureConfig, a dict or None, not {type(config).__name__}")
    return parse_config(FeatureConfig, {str(name): value for name, value in config.items()}, "")


_Config = TypeVar("_Config", bound=BaseModel)


def parse_config(kind: type[_Config], values: object, prefix: str) -> _Config:
    """The configuration of this kind, checked; `prefix` is where it stands in a larger one.

    Raises `ConfigError`, which names the key, in full.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            # Of several values that do not go together: it names them itself.
            inner = ".".join(filter(None, (prefix, cause.name)))
            raise ConfigError(inner, cause.problem) from None
        place = _place(kind, first["loc"])
        name = ".".join(str(part) for part in (prefix, *place) if part != "")
        if first["type"] == "extra_forbidden":
            known = ", ".join(_section(kind, place[:-1]).model_fields)
            problem = f"there is no such parameter; the parameters are {known}"
        else:
            # A value that may be of several kinds has an error for each.
            causes = [e["msg"] for e in error.errors() if _place(kind, e["loc"]) == place]
            causes = [f"{cause[0].lower()}{cause[1:]}" for cause in dict.fromkeys(causes)]
            problem = f"{', or '.join(causes)}, not {first['input']!r}"
        raise ConfigError(name, problem) from None


def _place(kind: type[BaseModel], path: Sequence[int | str]) -> tuple[int | str, ...]:
    """The keys of a path; what pydantic says of the kinds that a value may be of is no part of them."""
    place: list[int | str] = []
    inner: type[BaseModel] | None = kind
    for part in path:
        if inner is not None:
            place.append(part)
            inner = _model(inner, part)
        elif isinstance(part, int):
            place.append(part)
    return tuple(place)


def _section(kind: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    for part in path:
        kind = _model(kind, part) or kind
    return kind


def _model(kind: type[BaseModel], name: int | str) -> type[BaseModel] | None:
    """The section of this name, which may be optional; None for a value."""
    field = kind.model_fields.get(str(name))
    if field is None:
        return None
    for one in (field.annotation, *get_args(field.annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9}
_UNITS |= {"h": 3600 * 10**9, "d": 86_400 * 10**9}


def parse_duration(duration: str | int | timedelta, name: str = "reset_on_gap") -> int:
    """Nanoseconds of `'4h'`, `'90m'`, `'1d 12h'`, a timedelta, or nanoseconds; `name` is what an error blames."""
    if isinstance(duration, timedelta):
        nanoseconds = (duration.days * 86_400 + duration.seconds) * 10**9 + duration.microseconds * 1000
    elif isinstance(duration, int) and not isinstance(duration, bool):
        nanoseconds = duration
    else:
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", str(duration).lower())
        rest = re.sub(r"\d+(?:\.\d+)?\s*[a-z]+|\s", "", str(duration).lower())
        if not parts or rest or any(unit not in _UNITS for _, unit in parts):
            raise ConfigError(name, f"{duration!r} is not a duration; write for example '4h', '90m' or '1d'")
        nanoseconds = sum(round(float(number) * _UNITS[unit]) for number, unit in parts)
    if not 0 < nanoseconds < 2**63:
        raise ConfigError(name, f"must be longer than nothing and shorter than 292 years, not {duration!r}")
    return nanoseconds


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML 1.2 file: `1e-3` is a number, and a key that stands twice is an error."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        with open(path, encoding="utf-8") as file:
            content = YAML(typ="safe", pure=True).load(file)
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", "Give the path of a YAML file", source=str(path)
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"is not valid YAML: {error}", "Repair the file", source=str(path)) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(
            "must be a mapping of names to values", "Write for example `atr_period: 14`", source=str(path)
        )
    return content
