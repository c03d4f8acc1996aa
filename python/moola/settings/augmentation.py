"""The section `augmentation` of a training configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moola.settings.sections import Section

__all__ = ["AugmentationConfig", "JitterConfig", "MagnitudeWarpConfig", "TimeWarpConfig"]

_Share = Annotated[float, Field(ge=0, le=1, strict=True)]
_Sigma = Annotated[float, Field(ge=0, le=1, strict=True)]
_Knots = Annotated[int, Field(ge=2, le=64, strict=True)]


class JitterConfig(Section):
    """Normal noise on every value."""

    sigma: _Sigma = 0.04
    """The noise, in standard deviations of each feature over training bars; on raw OHLC, in ATRs."""
    p: _Share = 0.9
    """The share of windows that get it."""


class MagnitudeWarpConfig(Section):
    """A smooth random curve around 1 that multiplies a feature."""

    sigma: _Sigma = 0.25
    """The standard deviation of the curve's logarithm at a knot."""
    knots: _Knots = 4
    """The number of places, evenly spaced from the first bar to the last, at which the curve is drawn."""
    p: _Share = 0.6
    """The share of windows that get it."""


class TimeWarpConfig(Section):
    """A smooth random map of time."""

    sigma: _Sigma = 0.1
    """The standard deviation, at a knot, of the logarithm of the speed of time."""
    knots: _Knots = 4
    """The number of places, evenly spaced from the first bar to the last, at which the speed is drawn."""
    p: _Share = 0.3
    """The share of windows that get it."""


class AugmentationConfig(Section):
    """How training windows are augmented. Unknown names, wrong types and values out of range are refused."""

    copies: Annotated[int, Field(ge=1, le=1000, strict=True)] = 5
    """How many times an epoch serves each window. Each copy has its own draw."""
    jitter: JitterConfig = JitterConfig()
    magnitude_warp: MagnitudeWarpConfig = MagnitudeWarpConfig()
    time_warp: TimeWarpConfig = TimeWarpConfig()
