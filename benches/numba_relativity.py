"""`relativity10` written with numba: one pass, the same state machine, the same formulas.

`compute_features.py` compares moola with it. It is compiled without fastmath, because the values must agree, and with
`error_model="numpy"`, so that no division raises. It computes in float64 and stores rows as float32. Its state is in
scalars, so that LLVM keeps it in registers. The last true ranges are in a ring that is written twice, so that they
are summed from the oldest on without a modulo.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(error_model="numpy", inline="always")
def _ratio(a, b):
    return 0.0 if a == 0.0 and b == 0.0 else a / b


@njit(error_model="numpy", inline="always")
def _clip(x, low, high):
    return min(max(x, low), high)


@njit(error_model="numpy", inline="always")
def _reaches(size, threshold):
    return threshold > 0.0 and size >= threshold - 1e-9 * threshold


@njit(error_model="numpy", nogil=True)
def relativity10(
    open, high, low, close, out, range_ema_period=20, atr_period=10, zigzag_k=1.2, swing_time_scale=105.0
):
    """Fills `out` [N, 10] float32 from four float64 columns of length N."""
    alpha = 2.0 / (range_ema_period + 1.0)
    ring = np.zeros(2 * atr_period)
    position = 0
    filled = 0
    range_ema = 0.0
    previous_close = 0.0
    leg = 0
    # `extreme` is the highest high of an up leg, the lowest low of a down leg, and the running high before the first
    # leg. `pullback` is the most adverse price since then, and the running low before the first leg.
    extreme = extreme_bar = pullback = pullback_bar = 0.0
    swing_high = swing_high_bar = swing_low = swing_low_bar = 0.0
    has_high = has_low = False
    for i in range(len(close)):
        o, h, l, c = open[i], high[i], low[i], close[i]  # noqa: E741
        r = h - l
        if i == 0:
            range_ema = r
            atr = 0.0
        else:
            range_ema += alpha * (r - range_ema)
            true_range = max(r, max(abs(h - previous_close), abs(l - previous_close)))
            ring[position] = true_range
            ring[position + atr_period] = true_range
            position = 0 if position + 1 == atr_period else position + 1
            total = 0.0
            if filled >= atr_period - 1:
                for k in range(position, position + atr_period):
                    total += ring[k]
                atr = total / atr_period
            else:
                filled += 1
                for k in range(filled):
                    total += ring[k]
                atr = total / filled
        previous_close = c

        threshold = zigzag_k * atr
        bar = float(i)
        if leg > 0:
            if h > extreme:
                extreme, extreme_bar, pullback, pullback_bar = h, bar, c, bar
            elif l < pullback:
                pullback, pullback_bar = l, bar
            if _reaches(extreme - c, threshold):
                swing_high, swing_high_bar, has_high, leg = extreme, extreme_bar, True, -1
                extreme, extreme_bar, pullback, pullback_bar = pullback, pullback_bar, c, bar
        elif leg < 0:
            if l < extreme:
                extreme, extreme_bar, pullback, pullback_bar = l, bar, c, bar
            elif h > pullback:
                pullback, pullback_bar = h, bar
            if _reaches(c - extreme, threshold):
                swing_low, swing_low_bar, has_low, leg = extreme, extreme_bar, True, 1
                extreme, extreme_bar, pullback, pullback_bar = pullback, pullback_bar, c, bar
        elif i == 0:
            extreme, pullback = h, l
        else:
            if h > extreme:
                extreme, extreme_bar = h, bar
            if l < pullback:
                pullback, pullback_bar = l, bar
            rise, fall = c - pullback, extreme - c
            rises, falls = _reaches(rise, threshold), _reaches(fall, threshold)
            if rises and (not falls or rise >= fall - 1e-9 * fall):
                swing_low, swing_low_bar, has_low, leg = pullback, pullback_bar, True, 1
                extreme = c if pullback_bar == bar else h
                extreme_bar, pullback, pullback_bar = bar, c, bar
            elif falls:
                swing_high, swing_high_bar, has_high, leg = extreme, extreme_bar, True, -1
                extreme = c if extreme_bar == bar else l
                extreme_bar, pullback, pullback_bar = bar, c, bar

        row = out[i]
        row[0] = _ratio(o - l, r)
        row[1] = _ratio(c - l, r)
        row[2] = _ratio(c - o, r)
        row[3] = _ratio(h - max(o, c), r)
        row[4] = _ratio(min(o, c) - l, r)
        row[5] = _clip(_ratio(r, range_ema), 0.0, 3.0)
        if has_high:
            row[6] = _clip(_ratio(swing_high - c, atr), -3.0, 3.0)
            row[8] = _clip((bar - swing_high_bar) / swing_time_scale, 0.0, 3.0)
        else:
            row[6] = row[8] = 0.0
        if has_low:
            row[7] = _clip(_ratio(c - swing_low, atr), -3.0, 3.0)
            row[9] = _clip((bar - swing_low_bar) / swing_time_scale, 0.0, 3.0)
        else:
            row[7] = row[9] = 0.0
    return out
