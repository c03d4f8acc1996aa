"""`--layout windows`: bytes per second of the whole process, against writing as many bytes with plain large writes.

1.8 million bars give 7.9 GB per side; only one side's files are on the disk at a time. All sides are whole processes that
fsync their files. The writers read nothing and compute nothing. The writer that goes past the page cache decides no
claim: it shows the limit of the disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys

from benchmark import (
    BARS,
    MOOLA,
    WORK,
    Figure,
    Usage,
    free_bytes,
    interleaved,
    main,
    quartiles,
    ratio,
    run_process,
    sample_bars,
)

_WRITER = """
import os, sys
size, block = int(sys.argv[2]), os.urandom(8 << 20)
with open(sys.argv[1], "wb", buffering=0) as file:
    for start in range(0, size, len(block)):
        file.write(memoryview(block)[: size - start])
    os.fsync(file.fileno())
"""

# Writes whole blocks from aligned memory, so the file is up to one block longer.
_DIRECT_WRITER = """
import mmap, os, sys
size, block = int(sys.argv[2]), mmap.mmap(-1, 8 << 20)
block.write(os.urandom(len(block)))
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
for start in range(0, size, len(block)):
    os.pwrite(file, block, start)
os.fsync(file)
"""


def measure(_: argparse.Namespace) -> list[Figure]:
    """The claim."""
    expected = (BARS - 104) * 105 * (10 * 4 + 1)
    if free_bytes() < 1.2 * expected:
        raise SystemExit(
            f"{expected / 1e9:.1f} GB have to be written, and {free_bytes() / 1e9:.1f} GB are free; make room in {WORK}"
        )
    data = sample_bars()
    store, plain = WORK / "windows_layout.store", WORK / "windows_layout.bin"

    def clear() -> None:
        shutil.rmtree(store, ignore_errors=True)
        plain.unlink(missing_ok=True)
        os.sync()

    def build() -> Usage:
        return run_process(
            MOOLA,
            "build-features",
            "--data",
            data,
            "--output",
            store,
            "--stamp",
            "open",
            "--layout",
            "windows",
        )

    def write() -> Usage:
        return run_process(sys.executable, "-c", _WRITER, plain, size)

    def write_directly() -> Usage:
        return run_process(sys.executable, "-c", _DIRECT_WRITER, plain, size)

    clear()
    build()
    size = sum(file.stat().st_size for file in store.iterdir())
    sides = {"moola": build, "plain writes": write, "writes past the page cache": write_directly}
    rounds = interleaved(sides, rounds=5, warm_up=0, between=clear)
    clear()
    name = f"--layout windows, {size / 1e9:.1f} GB: speed against plain writes"
    return [
        ratio(
            rounds,
            "plain writes",
            "moola",
            name,
            "higher",
            bound=0.8,
            claim="`--layout windows`, bytes per second against plain large writes",
        ),
        *(
            Figure(
                f"  {side}",
                size / 1e6 / rounds.median(side),
                "MB/s",
                "higher",
                spread=quartiles([size / 1e6 / s for s in rounds.seconds[side]]),
            )
            for side in rounds.seconds
        ),
        Figure("  median seconds of moola", statistics.median(rounds.seconds["moola"]), "s", "lower"),
    ]


if __name__ == "__main__":
    main(measure)
