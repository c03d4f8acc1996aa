"""The parameters of the feature sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from moola.settings.sections import Section, parse_config

__all__ = ["FeatureConfig", "feature_config"]


_Period = Annotated[int, Field(ge=1, le=10_000, strict=True)]

_Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class FeatureConfig(Section):
    """Parameters of the feature sets. Each set uses only those it needs.

    Unknown names, wrong types and values out of range are refused.
    """

    range_ema_period: _Period = 20
    """Bars of the EMA of the range: α = 2/(period + 1)."""
    atr_period: _Period = 10
    """Bars of the average true range."""
    zigzag_k: _Positive = 1.2
    """How many ATRs a close must be away from an extreme to confirm it as a swing."""
    swing_time_scale: _Positive = 105.0
    """The age of a swing, in bars, that counts as 1."""
    zscore_period: _Period = 20
    """Bars over which z-scores are taken."""
    warmup_bars: Annotated[int, Field(ge=0, le=1_000_000_000, strict=True)] = 105
    """Bars at the start of a segment that are not valid yet."""

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
    """The checked configuration. Raises `ConfigError`, which names the parameter."""
    if isinstance(config, FeatureConfig):
        return config
    if not isinstance(config, Mapping):
        raise TypeError(f"config must be a FeatureConfig, a dict or None, not {type(config).__name__}")
    return parse_config(FeatureConfig, {str(name): value for name, value in config.items()}, "")
