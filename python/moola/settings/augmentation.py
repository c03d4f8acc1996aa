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
    """Of each feature's standard deviation over training bars; of the ATR on raw OHLC."""
    p: _Share = 0.9
    """The share of windows that get it."""


class MagnitudeWarpConfig(Section):
    """A smooth random curve around 1 that multiplies a feature."""

    sigma: _Sigma = 0.25
    """The standard deviation of the curve's logarithm at a knot."""
    knots: _Knots = 4
    """Where the curve is drawn, evenly from the first bar to the last."""
    p: _Share = 0.6
    """The share of windows that get it."""


class TimeWarpConfig(Section):
    """A smooth random map of time."""

    sigma: _Sigma = 0.1
    """The standard deviation at a knot of the logarithm of how fast time goes."""
    knots: _Knots = 4
    """Where the speed is drawn, evenly from the first bar to the last."""
    p: _Share = 0.3
    """The share of windows that get it."""


class AugmentationConfig(Section):
    """How training windows are augmented. Unknown names, wrong types and values out of range are refused."""

    copies: Annotated[int, Field(ge=1, le=1000, strict=True)] = 5
    """How many times an epoch serves each window, each time with a draw of its own."""
    jitter: JitterConfig = JitterConfig()
    magnitude_warp: MagnitudeWarpConfig = MagnitudeWarpConfig()
    time_warp: TimeWarpConfig = TimeWarpConfig()
