"""Jitter, magnitude warp and time warp, as modules over a batch of windows.

Source: Um et al., *Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using Convolutional
Neural Networks*, ICMI 2017 (arXiv:1706.00527). Unlike there, curves are exponentials of splines, so that the speed of
time and the factors of features are always positive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import ArrayLike
from torch import Tensor, nn

from moola.augment.curves import curves, spline_basis
from moola.augment.draws import chosen, normals
from moola.data.hashing import fold
from moola.errors import ConfigError
from moola.settings.augmentation import AugmentationConfig, JitterConfig, MagnitudeWarpConfig, TimeWarpConfig
from moola.settings.sections import parse_config

__all__ = ["Augmentation", "Augmented", "Jitter", "MagnitudeWarp", "TimeWarp"]

TensorLike: TypeAlias = Tensor | ArrayLike

# Each module folds its number into the window's key, so that their draws are independent.
_JITTER, _MAGNITUDE, _TIME = 1, 2, 3


class Augmented(NamedTuple):
    """A batch of augmented windows, with their spans and valid bars."""

    x: Tensor
    """`[B, K, D]`, the windows."""
    spans: Tensor | None
    """`[B, 2]` int64, first and last bar in the window, −1 and −1 for none; None if no spans were given."""
    valid: Tensor | None
    """`[B, K]` bool, the valid bars; None if not given, which means that all are valid."""


class _Warp(nn.Module):
    """The base of the three modules: it checks their input, and returns it if there is nothing to do."""

    sigma: float
    p: float

    def __init__(self, candles: bool = False) -> None:
        super().__init__()
        self.candles = candles

    def forward(
        self, x: Tensor, keys: Tensor, spans: Tensor | None = None, valid: Tensor | None = None
    ) -> Augmented:
        """Augments a batch. The given tensors are not changed; if there is nothing to do, they are returned.

        Args:
            x: `[B, K, D]`, of a floating type; with `candles`, D = 4: open, high, low, close.
            keys: `[B]` int64, see `window_keys`.
            spans: `[B, 2]` int64, first and last bar of each window's span, −1 and −1 for none.
            valid: `[B, K]` bool, the valid bars; all if not given.

        Raises `ConfigError`, naming the argument, for a wrong shape or type, and on a CPU for spans that are reversed
        or outside their windows. On other devices spans are not checked, because the check would wait for the device.
        """
        _check(x, keys, spans, valid, self.candles)
        if not self.training or self.sigma == 0 or self.p == 0 or not x.numel():
            return Augmented(x, spans, valid)
        return self._warp(x, keys, spans, valid)

    def _warp(self, x: Tensor, keys: Tensor, spans: Tensor | None, valid: Tensor | None) -> Augmented:
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The settings."""
        knots = f", knots={self.knots}" if hasattr(self, "knots") else ""
        return f"sigma={self.sigma:g}{knots}, p={self.p:g}" + (", candles=True" if self.candles else "")


class Jitter(_Warp):
    """Adds independent normal noise to every value.

    With `candles`, noise is in units of the window's ATR, the mean true range of its valid bars. Then the bar's highest
    price becomes its high, and its lowest price its low. So no price moves further than the largest noise of its bar.
    Noise never takes more than half of a price, so that none falls to 0.

    Args:
        scale: `[D]`, each feature's standard deviation over training bars. Not with `candles`.
        sigma: The standard deviation of the noise, in units of `scale` or of the ATR; 0 to 1.
        p: The share of windows that get noise.
        candles: Whether x is raw open, high, low and close.

    Raises `ConfigError` for a parameter out of range, and for a scale that is missing, negative or not finite.
    """

    scale: Tensor | None

    def __init__(
        self, scale: TensorLike | None = None, sigma: float = 0.04, p: float = 0.9, *, candles: bool = False
    ) -> None:
        super().__init__(candles)
        config = parse_config(JitterConfig, {"sigma": sigma, "p": p}, "jitter")
        self.sigma, self.p = config.sigma, config.p
        if candles == (scale is not None):
            what = (
                "is for features; raw candles use their ATR: leave it out"
                if candles
                else "is missing; give each feature's standard deviation over training bars, [D]"
            )
            raise ConfigError("scale", what)
        self.register_buffer("scale", None if scale is None else _scale(scale))

    def _warp(self, x: Tensor, keys: Tensor, spans: Tensor | None, valid: Tensor | None) -> Augmented:
        keys = fold(keys, _JITTER)
        amount = chosen(keys, self.p).float() * self.sigma
        if self.scale is not None:
            if len(self.scale) != x.shape[2]:
                problem = f"has {x.shape[2]} features, and the scale is for {len(self.scale)}"
                raise ConfigError("x", f"{problem}; give the features that the scale was computed from")
            noise = normals(keys, x[0].numel(), torch.float32).view(x.shape)
            noise *= amount[:, None, None] * self.scale
            return Augmented((noise if x.dtype == torch.float32 else noise.to(x.dtype)).add_(x), spans, valid)
        noise = normals(keys, x[0].numel(), torch.float32).view(x.shape)
        noise *= (amount * _atr(x, valid))[:, None, None]
        return Augmented(_as_candles(torch.maximum(x + noise.to(x.dtype), x / 2)), spans, valid)


class MagnitudeWarp(_Warp):
    """Multiplies each feature by its own smooth random curve.

    The logarithm of a curve is a cubic spline through evenly spaced knots, at normal deviates with mean 0 and standard
    deviation `sigma`. Half its variance is subtracted, so that the mean of the curve is 1 at every bar.

    With `candles`, one curve for each window multiplies the log returns since the window's first valid close, the same
    for all four prices. Moves grow and shrink, the prices of a candle keep their order, and none falls to 0.

    Args:
        sigma: The standard deviation of the curve's logarithm at a knot, 0 to 1.
        knots: The number of knots, 2 to 64.
        p: The share of windows that are warped.
        candles: Whether x is raw open, high, low and close.

    Raises `ConfigError` for a parameter out of range.
    """

    def __init__(self, sigma: float = 0.25, knots: int = 4, p: float = 0.6, *, candles: bool = False) -> None:
        super().__init__(candles)
        given = {"sigma": sigma, "knots": knots, "p": p}
        config = parse_config(MagnitudeWarpConfig, given, "magnitude_warp")
        self.sigma, self.knots, self.p = config.sigma, config.knots, config.p

    def _warp(self, x: Tensor, keys: Tensor, spans: Tensor | None, valid: Tensor | None) -> Augmented:
        keys = fold(keys, _MAGNITUDE)
        size, length, width = x.shape
        basis = spline_basis(self.knots, length, between=False, dtype=torch.float32, device=x.device)
        basis = basis * self.sigma
        columns = 1 if self.candles else width
        values = normals(keys, columns * self.knots, torch.float64).float()
        exponents = curves(values.reshape(size, columns, self.knots), basis)
        exponents -= (basis * basis).sum(0) / 2
        changed = chosen(keys, self.p)
        # For unchanged windows the curve is exp(0) = 1, which keeps every bit.
        exponents *= changed[:, None, None]
        curve = exponents.exp_().transpose(1, 2).to(x.dtype)
        if not self.candles:
            return Augmented(x * curve, spans, valid)
        first = torch.zeros_like(keys) if valid is None else valid.byte().argmax(1)
        base = x[:, :, 3].gather(1, first[:, None])[:, :, None]
        moved = _as_candles(((x / base).log() * curve).exp() * base)
        return Augmented(torch.where(changed[:, None, None], moved, x), spans, valid)


class TimeWarp(_Warp):
    """Resamples each window along a smooth random map of time, and moves its span and its valid bars with it.

    The speed of time is the exponential of a cubic spline through evenly spaced knots, at normal deviates with standard
    deviation `sigma`. The map τ is the integral of the speed, scaled so that the first and the last bar stay in place.
    Bar t of the result is the source at τ(t), interpolated linearly between two bars. τ always increases strictly.

    - **Spans**: both ends of a span move from s to τ⁻¹(s), rounded to the nearest bar. They stay in order and inside
      the window.
    - **Valid bars**: a bar is valid only if all bars that it is interpolated from are valid. So nothing hidden, such as
      NaN, shows. A window that would have no valid bar left is not changed.
    - **Candles**: the prices of a bar keep their order to the bit, because all get the same weights, and rounding keeps
      order.

    Args:
        sigma: The standard deviation of the speed's logarithm at a knot, 0 to 1.
        knots: The number of knots, 2 to 64.
        p: The share of windows that are warped.

    Raises `ConfigError` for a parameter out of range.
    """

    def __init__(self, sigma: float = 0.1, knots: int = 4, p: float = 0.3) -> None:
        super().__init__()
        config = parse_config(TimeWarpConfig, {"sigma": sigma, "knots": knots, "p": p}, "time_warp")
        self.sigma, self.knots, self.p = config.sigma, config.knots, config.p

    def times(self, keys: Tensor, length: int) -> Tensor:
        """τ of windows of at least two bars: `[B, length]` float64, the time in the source of each bar.

        Computed for all keys, also those that `p` does not choose.
        """
        return self._times(fold(keys, _TIME), length)

    def _times(self, keys: Tensor, length: int) -> Tensor:
        basis = spline_basis(self.knots, length, between=True, dtype=torch.float64, device=keys.device)
        speeds = curves(normals(keys, self.knots, torch.float64), basis * self.sigma).exp_()
        # Integers are summed, so that the sum has the same bits in any order of addition.
        ends = F.pad(speeds.mul_(2**30).round_().long().cumsum(1), (1, 0)).double()
        return ends / ends[:, -1:] * (length - 1)

    def _warp(self, x: Tensor, keys: Tensor, spans: Tensor | None, valid: Tensor | None) -> Augmented:
        size, length, width = x.shape
        if length == 1:
            return Augmented(x, spans, valid)
        keys = fold(keys, _TIME)
        times = self._times(keys, length)
        changed = chosen(keys, self.p)
        bars = torch.arange(length, device=x.device)
        here = torch.where(changed[:, None], times, bars)
        before, weight = _neighbours(here, x.dtype)
        if valid is not None:
            shown = _shown(valid, before, weight)
            changed = changed & (shown.any(1) | ~valid.any(1))
            here = torch.where(changed[:, None], times, bars)
            before, weight = _neighbours(here, x.dtype)
            valid = _shown(valid, before, weight)
        # With a weight of 0, the next bar is replaced by this one: 0 times NaN would give NaN.
        rows = before + (torch.arange(size, device=x.device) * length)[:, None]
        rows = torch.stack([rows, rows + (weight > 0)], dim=2).view(-1, 2)
        weights = torch.stack([1 - weight, weight], dim=2).view(-1, 2)
        flat = x.reshape(size * length, width)
        # Sums weighted rows in one pass; the fastest way on a CPU.
        warped = F.embedding_bag(rows, flat, mode="sum", per_sample_weights=weights).view(x.shape)
        if spans is not None:
            spans = torch.where(changed[:, None] & (spans >= 0), _arrivals(times, spans), spans)
        return Augmented(warped, spans, valid)


class Augmentation(nn.Module):
    """Applies jitter, magnitude warp and time warp in turn, then clips each feature to its range.

    The training loop is expected to serve each window `copies` times an epoch, each time with another key.

    Args:
        scale: `[D]`, each feature's standard deviation over training bars. Not with `candles`.
        ranges: `[D, 2]`, each feature's lowest and highest value, ±inf for no bound. Not with `candles`.
        config: The settings of the three modules; defaults if not given.
        candles: Whether x is raw open, high, low and close.

    Raises `ConfigError`, naming the parameter.
    """

    ranges: Tensor | None

    def __init__(
        self,
        scale: TensorLike | None = None,
        ranges: TensorLike | None = None,
        config: AugmentationConfig | Mapping[str, Any] | None = None,
        *,
        candles: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(config, AugmentationConfig):
            config = parse_config(AugmentationConfig, {} if config is None else config, "augmentation")
        self.copies = config.copies
        self.jitter = Jitter(scale, config.jitter.sigma, config.jitter.p, candles=candles)
        self.magnitude_warp = MagnitudeWarp(**config.magnitude_warp.model_dump(), candles=candles)
        self.time_warp = TimeWarp(**config.time_warp.model_dump())
        if ranges is not None and candles:
            raise ConfigError("ranges", "are for features, and candles have none; leave them out")
        width = None if self.jitter.scale is None else len(self.jitter.scale)
        self.register_buffer("ranges", None if ranges is None else _ranges(ranges, width))

    def forward(
        self, x: Tensor, keys: Tensor, spans: Tensor | None = None, valid: Tensor | None = None
    ) -> Augmented:
        """Augments a batch; see :meth:`Jitter.forward`."""
        batch = Augmented(x, spans, valid)
        for warp in (self.jitter, self.magnitude_warp, self.time_warp):
            batch = warp(batch.x, keys, batch.spans, batch.valid)
        if self.training and self.ranges is not None:
            low, high = self.ranges.to(x.dtype).unbind(1)
            batch = batch._replace(x=batch.x.clamp(low, high))
        return batch


def _neighbours(times: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The bar at or before each time, and the weight of the bar after it."""
    before = times.floor()
    return before.long(), (times - before).to(dtype)


def _shown(valid: Tensor, before: Tensor, weight: Tensor) -> Tensor:
    """Whether all bars that a bar is interpolated from are valid: `[B, K]`."""
    return valid.gather(1, before) & valid.gather(1, before + (weight > 0))


def _arrivals(times: Tensor, bars: Tensor) -> Tensor:
    """τ⁻¹, rounded: the bar of the result that each of these bars of the source moves to. `[B, 2]` int64."""
    wanted = bars.double()
    after = torch.searchsorted(times, wanted, right=True).clamp_(1, times.shape[1] - 1)
    begin, end = times.gather(1, after - 1), times.gather(1, after)
    part = ((wanted - begin) / (end - begin)).clamp_(0, 1)
    return (after - 1 + part + 0.5).long()


def _atr(x: Tensor, valid: Tensor | None) -> Tensor:
    """The mean true range of each window's valid bars, `[B]`. It uses a bar's previous close only if that is valid."""
    _, high, low, close = x.float().unbind(2)
    previous = close[:, :-1]
    if valid is not None:
        previous = torch.where(valid[:, :-1], previous, low[:, 1:])
    top = torch.cat([high[:, :1], torch.maximum(high[:, 1:], previous)], dim=1)
    bottom = torch.cat([low[:, :1], torch.minimum(low[:, 1:], previous)], dim=1)
    ranges = top - bottom
    if valid is None:
        return ranges.mean(1)
    return ranges.masked_fill(~valid, 0).sum(1) / valid.sum(1).clamp(min=1)


def _as_candles(x: Tensor) -> Tensor:
    """Replaces each bar's high and low by the highest and the lowest of its four prices."""
    open, _, _, close = x.unbind(2)
    return torch.stack([open, x.amax(2), x.amin(2), close], dim=2)


def _check(x: Tensor, keys: Tensor, spans: Tensor | None, valid: Tensor | None, candles: bool) -> None:
    if x.ndim != 3 or not x.is_floating_point():
        raise ConfigError(
            "x", f"is {x.dtype} of shape {list(x.shape)}; give windows [B, K, D] of a floating type"
        )
    size, length, width = x.shape
    if candles and width != 4:
        raise ConfigError("x", f"has {width} columns; candles have 4: open, high, low, close")
    for name, tensor, dtype, shape in (
        ("keys", keys, torch.int64, (size,)),
        ("spans", spans, torch.int64, (size, 2)),
        ("valid", valid, torch.bool, (size, length)),
    ):
        if tensor is not None and (tensor.dtype != dtype or tensor.shape != shape):
            problem = f"is {tensor.dtype} of shape {list(tensor.shape)}"
            raise ConfigError(name, f"{problem}; with this x, give {dtype} of shape {list(shape)}")
    if spans is not None and spans.device.type == "cpu":
        _check_spans(spans, length)


def _check_spans(spans: Tensor, length: int) -> None:
    first, last = spans.unbind(1)
    fine = ((first >= 0) & (first <= last) & (last < length)) | ((first == -1) & (last == -1))
    if not bool(fine.all()):
        wrong = int((~fine).int().argmax())
        problem = f"is {int(first[wrong])} to {int(last[wrong])} for window {wrong}"
        raise ConfigError(
            "spans", f"{problem}; give first and last bar, from 0 to {length - 1}, or −1 and −1 for none"
        )


def _numbers(name: str, given: TensorLike) -> Tensor:
    if isinstance(given, Tensor):
        return given.detach().float().clone()
    try:
        return torch.from_numpy(np.array(given, np.float32))
    except (TypeError, ValueError):
        raise ConfigError(name, f"{given!r} is not an array of numbers; give a tensor or an array") from None


def _scale(given: TensorLike) -> Tensor:
    scale = _numbers("scale", given)
    if scale.ndim != 1 or not len(scale):
        raise ConfigError("scale", f"is of shape {list(scale.shape)}; give one number for each feature, [D]")
    if not bool((scale.isfinite() & (scale >= 0)).all()):
        wrong = int((~(scale.isfinite() & (scale >= 0))).int().argmax())
        problem = f"is {scale[wrong]:g} for feature {wrong}"
        raise ConfigError("scale", f"{problem}; give finite standard deviations of 0 or more")
    return scale


def _ranges(given: TensorLike, width: int | None) -> Tensor:
    ranges = _numbers("ranges", given)
    if ranges.ndim != 2 or ranges.shape[1] != 2 or (width is not None and len(ranges) != width):
        wanted = f"{width} features" if width is not None else "D features"
        problem = f"is of shape {list(ranges.shape)}"
        raise ConfigError("ranges", f"{problem}; give the lowest and the highest value of {wanted}, [D, 2]")
    ordered = ranges[:, 0] <= ranges[:, 1]
    if not bool(ordered.all()):
        wrong = int((~ordered).int().argmax())
        problem = f"is {ranges[wrong, 0]:g} to {ranges[wrong, 1]:g} for feature {wrong}"
        raise ConfigError("ranges", f"{problem}; give the lowest value, then the highest, ±inf for none")
    return ranges
