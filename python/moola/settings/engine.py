"""The parameters of feature sets in the form that the engine takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moola.settings.features import FeatureConfig

__all__ = ["parameters"]


def parameters(
    config: FeatureConfig | Mapping[str, Any] | None,
) -> tuple[int, int, float, float, int, int] | None:
    """The engine's form of a configuration; None stands for its defaults, so that these cost no import."""
    if config is None:
        return None
    from moola.settings.features import feature_config

    return feature_config(config).astuple()
