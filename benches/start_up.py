"""The time of `import moola` in a fresh interpreter, minus that of the interpreter; and of `FeatureStore.open`.

Opening is timed repeatedly in one process. It is also timed as the first call of moola in a fresh process, where it
includes the imports that it needs.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys

from benchmark import WORK, Figure, each, interleaved, main, quartiles, run_process, sample_bars

import moola

_FIRST_OPEN = """
import sys, time
import moola
started = time.perf_counter()
store = moola.FeatureStore.open(sys.argv[1])
store.features, store.valid, store.timestamps, store.bars
print(time.perf_counter() - started)
"""


def measure(_: argparse.Namespace) -> list[Figure]:
    """Both claims."""
    processes = interleaved(
        {
            "python": lambda: run_process(sys.executable, "-c", "pass"),
            "python, import moola": lambda: run_process(sys.executable, "-c", "import moola"),
            "python, import numpy": lambda: run_process(sys.executable, "-c", "import numpy"),
            "moola --version": lambda: run_process(sys.executable, "-m", "moola", "--version"),
        },
        rounds=15,
    )
    importing = [
        b - a
        for a, b in zip(processes.seconds["python"], processes.seconds["python, import moola"], strict=True)
    ]

    path = WORK / "start_up.store"
    shutil.rmtree(path, ignore_errors=True)
    moola.build_features(sample_bars(), path, stamp="open").close()

    def open_all() -> object:
        with moola.FeatureStore.open(path) as store:
            return store.features, store.valid, store.timestamps, store.bars

    opening = interleaved({"open": open_all}, rounds=101)
    first = [
        float(
            subprocess.run(
                [sys.executable, "-c", _FIRST_OPEN, path], capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(11)
    ]
    shutil.rmtree(path)
    return [
        Figure(
            "import moola, less the interpreter",
            statistics.median(importing),
            "s",
            "lower",
            spread=quartiles(importing),
            claim="`import moola`",
            bound=0.3,
        ),
        each(
            opening,
            "open",
            "FeatureStore.open, all four arrays",
            1,
            "ms",
            claim="`FeatureStore.open`",
            bound=10.0,
        ),
        Figure(
            "  the first in a process, imports included",
            statistics.median(first) * 1e3,
            "ms",
            "lower",
            spread=quartiles([s * 1e3 for s in first]),
        ),
        *(each(processes, side, f"  {side}", 1, "ms") for side in processes.seconds),
    ]


if __name__ == "__main__":
    main(measure)
