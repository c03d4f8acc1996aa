"""Asks the engine which feature sets exist, and for the names and ranges of their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from moola import _core
from moola.errors import ConfigError
from moola.settings.engine import parameters

if TYPE_CHECKING:
    from moola.settings.features import FeatureConfig

__all__ = ["check_set_name", "describe_features"]


def describe_features(
    feature_set: str, config: FeatureConfig | Mapping[str, Any] | None
) -> list[tuple[str, float | None, float | None]]:
    """The name and range of each feature. Raises `ConfigError` for an unknown set, and names the nearest one."""
    check_set_name("feature_set", feature_set, _core.feature_sets())
    return _core.describe_features(feature_set, parameters(config))


def check_set_name(option: str, value: object, known: Sequence[str]) -> None:
    """Raises `ConfigError`, naming the nearest name, unless `value` is one of the known ones."""
    if value not in known:
        near = get_close_matches(str(value), known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ConfigError(option, f"there is no {value!r}{hint} Choose one of {', '.join(known)}")
