"""The base of every section of a configuration, and the check of a mapping against one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from moola.errors import ConfigError

__all__ = ["Section", "parse_config"]

_Config = TypeVar("_Config", bound=BaseModel)


class Section(BaseModel):
    """A frozen section that refuses unknown keys. NumPy's integers are whole numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _plain_integers(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {
            name: int(value) if isinstance(value, Integral) and not isinstance(value, int) else value
            for name, value in values.items()
        }


def parse_config(kind: type[_Config], values: object, prefix: str) -> _Config:
    """The checked configuration of this kind.

    Args:
        kind: Its class.
        values: A mapping.
        prefix: The key under which it stands in a larger configuration, or an empty text.

    Raises `ConfigError`, which names the wrong key in full.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            # An error about several values together names them itself.
            inner = ".".join(filter(None, (prefix, cause.name)))
            raise ConfigError(inner, cause.problem) from None
        place = _place(kind, first["loc"])
        name = ".".join(str(part) for part in (prefix, *place) if part != "")
        if first["type"] == "extra_forbidden":
            known = ", ".join(_section(kind, place[:-1]).model_fields)
            problem = f"there is no such parameter; the parameters are {known}"
        else:
            # A value that may have several types gives an error for each type.
            causes = [e["msg"] for e in error.errors() if _place(kind, e["loc"]) == place]
            causes = [f"{cause[0].lower()}{cause[1:]}" for cause in dict.fromkeys(causes)]
            problem = f"{', or '.join(causes)}, not {first['input']!r}"
        raise ConfigError(name, problem) from None


def _place(kind: type[BaseModel], path: Sequence[int | str]) -> tuple[int | str, ...]:
    """The keys of a path, without the types that pydantic adds where a value may have several."""
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
    """The class of the section of this name, optional or not; None for a plain value."""
    field = kind.model_fields.get(str(name))
    if field is None:
        return None
    for one in (field.annotation, *get_args(field.annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None
