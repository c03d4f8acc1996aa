"""Times of builds from CSV and from a panel of eight symbols, with 1.8 million bars each. There is no claim."""

from __future__ import annotations

import argparse
import os
import shutil

from benchmark import BARS, MOOLA, WORK, Figure, interleaved, main, quartiles, run_process, sample_bars

SYMBOLS = 8


def measure(_: argparse.Namespace) -> list[Figure]:
    """The seconds of each whole process."""
    sources = {
        "CSV": sample_bars(suffix=".csv"),
        f"Parquet, {SYMBOLS} symbols": sample_bars(BARS // SYMBOLS, SYMBOLS),
        "Parquet": sample_bars(),
    }
    store = WORK / "other_sources.store"

    def clear() -> None:
        shutil.rmtree(store, ignore_errors=True)
        os.sync()

    sides = {
        name: lambda path=path: run_process(
            MOOLA, "build-features", "--data", path, "--output", store, "--stamp", "open"
        )
        for name, path in sources.items()
    }
    rounds = interleaved(sides, rounds=5, warm_up=1, between=clear)
    clear()
    return [
        Figure(
            f"moola build-features from {side}",
            rounds.median(side),
            "s",
            "lower",
            spread=quartiles(rounds.seconds[side]),
        )
        for side in rounds.seconds
    ]


if __name__ == "__main__":
    main(measure)
