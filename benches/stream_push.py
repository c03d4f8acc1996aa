"""The time of `FeatureStream.push` from Python for one bar, which returns one row.

Also the time of the loop itself, and of making an array for each row. `rust_engine.py` measures the call in Rust.
"""

from __future__ import annotations

import argparse

import numpy as np
from benchmark import Figure, each, interleaved, main, sample_columns

import moola

BARS = 100_000


def measure(_: argparse.Namespace) -> list[Figure]:
    """The claim, and the share of Python in it."""
    bars = list(zip(*(column[:BARS].tolist() for column in sample_columns()), strict=True))

    def push() -> None:
        push = moola.FeatureStream().push
        for open, high, low, close in bars:
            push(open, high, low, close)

    def row() -> None:
        empty, float32 = np.empty, np.float32
        for _open, _high, _low, _close in bars:
            empty(10, float32)

    def loop() -> None:
        for _open, _high, _low, _close in bars:
            pass

    rounds = interleaved({"push": push, "a row's empty array": row, "the empty loop": loop}, rounds=15)
    return [
        each(
            rounds,
            "push",
            "FeatureStream.push from Python",
            BARS,
            claim="`FeatureStream.push` from Python",
            bound=1000.0,
        ),
        each(rounds, "a row's empty array", "  the loop with numpy.empty(10, float32) in it", BARS),
        each(rounds, "the empty loop", "  the loop with nothing in it", BARS),
    ]


if __name__ == "__main__":
    main(measure)
