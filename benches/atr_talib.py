"""The ATR of `compute_swings` against TA-Lib's SMA of TRANGE: equal to 1e-9, and the time of each.

The times are shown but not compared: TA-Lib computes only the ATR, with a running sum. `compute_swings` sums every
window from scratch, and also finds the swings and the legs.
"""

from __future__ import annotations

import argparse

import numpy as np
import talib
from benchmark import Figure, each, interleaved, main, sample_columns

import moola

PERIOD = 10


def measure(_: argparse.Namespace) -> list[Figure]:
    """The claim and both times."""
    open, high, low, close = sample_columns()

    def reference() -> np.ndarray:
        return talib.SMA(talib.TRANGE(high, low, close), PERIOD)

    expected, atr = reference(), moola.compute_swings(open, high, low, close).atr
    # TA-Lib has no value before the first whole window. Bar 0 does not belong to that window.
    difference = np.abs(expected[PERIOD:] - atr[PERIOD:]).max()
    if not np.isfinite(expected[PERIOD:]).all():
        raise SystemExit("TA-Lib gives NaN after its first whole window, so nothing can be compared")
    rounds = interleaved(
        {"compute_swings": lambda: moola.compute_swings(open, high, low, close), "TA-Lib": reference},
        rounds=9,
    )
    return [
        Figure(
            "ATR: largest difference from TA-Lib",
            float(difference),
            "1",
            "lower",
            claim="ATR of `compute_swings`, against TA-Lib's TRANGE and SMA",
            bound=1e-9,
        ),
        each(rounds, "compute_swings", "  compute_swings: ATR, swings and legs", len(close)),
        each(rounds, "TA-Lib", "  TA-Lib: TRANGE and SMA", len(close)),
    ]


if __name__ == "__main__":
    main(measure)
