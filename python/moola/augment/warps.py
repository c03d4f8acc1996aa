"""Jitter, magnitude warp and time warp, as modules over a batch of windows.

After Um et al., *Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using Convolutional
Neural Networks*, ICMI 2017 (arXiv:1706.00527). Other than there, curves are exponentials of splines: a speed of time is
never negative, and neither is what a feature is multiplied by.
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

# Each module draws from a key of its own, folded out of the window's.
_JITTER, _MAGNITUDE, _TIME = 1, 2, 3


class Augmented(NamedTuple):
    """A batch of windows with what moves along."""

    x: Tensor
    """`[B, K, D]`."""
    spans: Tensor | None
    """`[B, 2]` int64, the first and the last bar in the window, −1 for none; None where none were given."""
    valid: Tensor | None
    """`[B, K]` bool, the bars that count; None where it was not given, and all count."""


class _Warp(nn.Module):
    """What the three have in common: when there is nothing to do, and what they take."""

    sigma: float
    p: float

    def __init__(self, candles: bool = False) -> None:
        super().__init__()
        self.candles = candles

    def forward(
        self, x: Tensor, keys: Tensor, spans: Tensor | None = None, valid: Tensor | None = None
    ) -> Augmented:
        """The batch, warped; what is given is not altered, and without anything to do is what is returned.

        Args:
            x: `[B, K, D]`, floating; with `candles`, D = 4: open, high, low, close.
            keys: `[B]` int64, see `window_keys`.
            spans: `[B, 2]` int64, the first and the last bar of each window's span, −1 and −1 for none.
            valid: `[B, K]` bool, the bars that count; all where it is not given.

        Raises `ConfigError`, naming the argument, for a shape or a type that does not fit, and on a CPU for spans that
        are reversed or lie outside their windows. Other devices are not checked, because checking would wait for them.
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

    With `candles`, each price gets noise in units of the window's ATR, the mean true range of its valid bars; then
    the high is the highest of the bar's four, and the low the lowest. So no price moves further than the largest
    noise of its bar. A price keeps at least half of itself, so that none falls to 0.

    Args:
        scale: `[D]`, each feature's standard deviation over training bars. Not with `candles`.
        sigma: Of the noise, in units of `scale` or of the ATR; 0 to 1.
        p: The share of windows that get it.
        candles: Whether x is raw open, high, low and close.

    Raises `ConfigError` for a parameter out of range, and a scale that is missing, or negative, or not finite.
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
                "is of features; raw candles have their own, the ATR: leave it out"
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
                problem = f"has {x.shape[2]} features, but there is a scale for {len(self.scale)}"
                raise ConfigError("x", f"{problem}; give the features that the scale was computed of")
            noise = normals(keys, x[0].numel(), torch.float32).view(x.shape)
            noise *= amount[:, None, None] * self.scale
            return Augmented((noise if x.dtype == torch.float32 else noise.to(x.dtype)).add_(x), spans, valid)
        noise = normals(keys, x[0].numel(), torch.float32).view(x.shape)
        noise *= (amount * _atr(x, valid))[:, None, None]
        return Augmented(_as_candles(torch.maximum(x + noise.to(x.dtype), x / 2)), spans, valid)


class MagnitudeWarp(_Warp):
    """Multiplies each feature with a smooth random curve of its own.

    The logarithm of a curve is a cubic spline through normal deviates of mean 0 and deviation `sigma` at evenly
    spaced knots, less half its variance, so that at every bar the curve is 1 in the mean.

    With `candles`, one curve a window multiplies the log returns since the window's first valid close, of all four
    prices alike: moves grow and shrink, a candle's prices keep their order, and none falls to 0.

    Args:
        sigma: The deviation of the curve's logarithm at a knot, 0 to 1.
        knots: 2 to 64.
        p: The share of windows that get it.
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
        # Where a window keeps its bits, the curve is exp(0), which is 1.
        exponents *= changed[:, None, None]
        curve = exponents.exp_().transpose(1, 2).to(x.dtype)
        if not self.candles:
            return Augmented(x * curve, spans, valid)
        first = torch.zeros_like(keys) if valid is None else valid.byte().argmax(1)
        base = x[:, :, 3].gather(1, first[:, None])[:, :, None]
        moved = _as_candles(((x / base).log() * curve).exp() * base)
        return Augmented(torch.where(changed[:, None, None], moved, x), spans, valid)


class TimeWarp(_Warp):
    """Resamples each window along a smooth random map of time, and moves its span and its valid bars along.

    How fast time goes is the exponential of a cubic spline through normal deviates of deviation `sigma` at evenly
    spaced knots. Its integral, scaled so that the first bar and the last stay where they are, is the map: at bar t of
    the result stands what was at τ(t), interpolated linearly between two bars. τ ascends strictly for every draw.

    - **Spans**: bar s of the source comes to τ⁻¹(s), rounded to a bar, and so do both ends of a span: by half a bar
      at the most from where it is, inside the window, and in order.
    - **Valid bars**: a bar counts only where all bars it was made of do, so that nothing hidden shows, be it NaN. A
      window that would be left without one stays as it is.
    - **Candles** stay candles to the bit, for all prices of a bar are weighed alike, and rounding keeps order.

    Args:
        sigma: The deviation of the speed's logarithm at a knot, 0 to 1.
        knots: 2 to 64.
        p: The share of windows that get it.

    Raises `ConfigError` for a parameter out of range.
    """

    def __init__(self, sigma: float = 0.1, knots: int = 4, p: float = 0.3) -> None:
        super().__init__()
        config = parse_config(TimeWarpConfig, {"sigma": sigma, "knots": knots, "p": p}, "time_warp")
        self.sigma, self.knots, self.p = config.sigma, config.knots, config.p

    def times(self, keys: Tensor, length: int) -> Tensor:
        """τ of windows of at least two bars, `[B, length]` float64: at which time of the source each bar stands.

        For all keys, whether `p` chooses them or not.
        """
        return self._times(fold(keys, _TIME), length)

    def _times(self, keys: Tensor, length: int) -> Tensor:
        basis = spline_basis(self.knots, length, between=True, dtype=torch.float64, device=keys.device)
        speeds = curves(normals(keys, self.knots, torch.float64), basis * self.sigma).exp_()
        # The map is summed in whole numbers, whose sum has the same bits in any order that a device adds them in.
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
        # Where nothing of the next bar is taken this one stands for it, lest 0 times NaN be added.
        rows = before + (torch.arange(size, device=x.device) * length)[:, None]
        rows = torch.stack([rows, rows + (weight > 0)], dim=2).view(-1, 2)
        weights = torch.stack([1 - weight, weight], dim=2).view(-1, 2)
        flat = x.reshape(size * length, width)
        # A sum of weighed rows in one pass, and the fastest there is for it on a CPU.
        warped = F.embedding_bag(rows, flat, mode="sum", per_sample_weights=weights).view(x.shape)
        if spans is not None:
            spans = torch.where(changed[:, None] & (spans >= 0), _arrivals(times, spans), spans)
        return Augmented(warped, spans, valid)


class Augmentation(nn.Module):
    """Jitter, magnitude warp and time warp, one after the other; then each feature is clipped to its range.

    `copies` says how many times an epoch serves each window; whoever serves does it, with a key for each.

    Args:
        scale: `[D]`, each feature's standard deviation over training bars. Not with `candles`.
        ranges: `[D, 2]`, each feature's lowest and highest value, ±inf where there is none. Not with `candles`.
        config: How much of each; defaults where none is given.
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
            raise ConfigError("ranges", "are of features, and candles have none; leave them out")
        width = None if self.jitter.scale is None else len(self.jitter.scale)
        self.register_buffer("ranges", None if ranges is None else _ranges(ranges, width))

    def forward(
        self, x: Tensor, keys: Tensor, spans: Tensor | None = None, valid: Tensor | None = None
    ) -> Augmented:
        """As each of the three; see :meth:`Jitter.forward`."""
        batch = Augmented(x, spans, valid)
        for warp in (self.jitter, self.magnitude_warp, self.time_warp):
            batch = warp(batch.x, keys, batch.spans, batch.valid)
        if self.training and self.ranges is not None:
            low, high = self.ranges.to(x.dtype).unbind(1)
            batch = batch._replace(x=batch.x.clamp(low, high))
        return batch


def _neighbours(times: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The bar before each time, and the weight of the one after it."""
    before = times.floor()
    return before.long(), (times - before).to(dtype)


def _shown(valid: Tensor, before: Tensor, weight: Tensor) -> Tensor:
    """Whether all bars that a bar is made of are valid."""
    return valid.gather(1, before) & valid.gather(1, before + (weight > 0))


def _arrivals(times: Tensor, bars: Tensor) -> Tensor:
    """τ⁻¹, rounded: the bar of the result where each of these bars of the source stands. `[B, 2]` int64."""
    wanted = bars.double()
    after = torch.searchsorted(times, wanted, right=True).clamp_(1, times.shape[1] - 1)
    begin, end = times.gather(1, after - 1), times.gather(1, after)
    part = ((wanted - begin) / (end - begin)).clamp_(0, 1)
    return (after - 1 + part + 0.5).long()


def _atr(x: Tensor, valid: Tensor | None) -> Tensor:
    """The mean true range of each window's valid bars, `[B]`; a bar's previous close counts where that is valid."""
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
    """The bars with the highest of their four prices as the high, and the lowest as the low."""
    open, _, _, close = x.unbind(2)
    return torch.stack([open, x.amax(2), x.amin(2), close], dim=2)


def _check(x: Tensor, keys: Tensor, spans: Tensor | None, valid: Tensor | None, candles: bool) -> None:
    if x.ndim != 3 or not x.is_floating_point():
        raise ConfigError(
            "x", f"is {x.dtype} of shape {list(x.shape)}; give windows, [B, K, D], of floating type"
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
        raise ConfigError(name, f"{given!r} is no array of numbers; give a tensor, or an array") from None


def _scale(given: TensorLike) -> Tensor:
    scale = _numbers("scale", given)
    if scale.ndim != 1 or not len(scale):
        raise ConfigError("scale", f"is of shape {list(scale.shape)}; give one number a feature, [D]")
    if not bool((scale.isfinite() & (scale >= 0)).all()):
        wrong = int((~(scale.isfinite() & (scale >= 0))).int().argmax())
        problem = f"is {scale[wrong]:g} for feature {wrong}"
        raise ConfigError("scale", f"{problem}; give finite standard deviations from 0 on")
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
