"""Time and peak memory of the whole `moola build-features` process, from Parquet to a store on disk with fsync.

It is compared with `plain_script.py`: ten lines that read the same Parquet with pyarrow, compute nothing, and write and
fsync as many bytes. Both are whole processes, from exec to exit. Each starts after all earlier writes have reached the
disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from pathlib import Path

from benchmark import (
    MOOLA,
    WORK,
    Figure,
    Usage,
    interleaved,
    main,
    quartiles,
    ratio,
    run_process,
    sample_bars,
)


def measure(_: argparse.Namespace) -> list[Figure]:
    """Both claims."""
    bars = sample_bars()
    store, plain = WORK / "build_process.store", WORK / "build_process.bin"
    script = Path(__file__).with_name("plain_script.py")
    peaks: dict[str, list[int]] = {"moola": [], "script": []}

    def noted(side: str, usage: Usage) -> Usage:
        peaks[side].append(usage.peak_bytes)
        return usage

    def clear() -> None:
        shutil.rmtree(store, ignore_errors=True)
        plain.unlink(missing_ok=True)
        os.sync()

    def build() -> Usage:
        return noted(
            "moola",
            run_process(MOOLA, "build-features", "--data", bars, "--output", store, "--stamp", "open"),
        )

    def write() -> Usage:
        return noted("script", run_process(sys.executable, script, bars, plain, size))

    clear()
    build()
    size = sum(file.stat().st_size for file in store.iterdir())
    rounds = interleaved({"moola": build, "script": write}, rounds=9, warm_up=1, between=clear)
    clear()
    peak = [a / b for a, b in zip(peaks["moola"][-9:], peaks["script"][-9:], strict=True)]
    return [
        ratio(
            rounds,
            "moola",
            "script",
            "moola build-features: times the script's time",
            "lower",
            bound=1.5,
            claim="the whole `moola build-features` process, against a script that reads the same Parquet and writes "
            "and fsyncs as many bytes",
        ),
        Figure(
            "moola build-features: times the script's peak memory",
            statistics.median(peak),
            "x",
            "lower",
            claim="its peak memory, against the script's",
            bound=1.2,
            spread=quartiles(peak),
        ),
        *(
            Figure(f"  {side}", rounds.median(side), "s", "lower", spread=quartiles(rounds.seconds[side]))
            for side in rounds.seconds
        ),
        *(Figure(f"  {side}, peak", statistics.median(peaks[side]) / 1e6, "MB", "lower") for side in peaks),
        Figure("  bytes written", size / 1e6, "MB", "lower"),
    ]


if __name__ == "__main__":
    main(measure)
