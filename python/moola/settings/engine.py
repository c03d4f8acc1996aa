"""Turns a feature configuration into the tuple of parameters that the engine takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moola.settings.features import FeatureConfig

__all__ = ["parameters"]


def parameters(
    config: FeatureConfig | Mapping[str, Any] | None,
) -> tuple[int, int, float, float, int, int] | None:
    """The parameters as the engine takes them. None stands for the defaults, which then cost no import."""
    if config is None:
        return None
    from moola.settings.features import feature_config

    return feature_config(config).astuple()
