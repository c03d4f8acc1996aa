"""Raw labelled windows, read: moola against the object arrays that pandas makes of nested columns.

The file is the old pipeline's: a row a window, `features` an array of 105 arrays of open, high, low and close; 174
windows, and as many as 10,000. The old side is `pandas.read_parquet`, which gives objects; a model wants an array, so its
rows are stacked as well, apart. moola checks every bar, computes the features and looks for overlaps besides.

- **Time**: in one process, interleaved, the file in the page cache.
- **Memory**: each side in a fresh process: how much more memory of its own it has, holding the result; and its peak.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmark import WORK, Figure, interleaved, main, quartiles, ratio

LENGTH = 105
FEW, MANY = 174, 10_000


def old_file(windows: int) -> Path:
    """Labelled windows of a random walk on a tick grid, in the old layout, written by pandas."""
    import numpy as np
    import pandas as pd

    path = WORK / f"raw-{windows}.parquet"
    if path.exists():
        return path
    WORK.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(17)
    close = 4000 + rng.integers(-8, 9, (windows, LENGTH)).cumsum(axis=1) * 0.25
    opened = np.roll(close, 1, axis=1)
    opened[:, 0] = close[:, 0]
    wicks = rng.integers(0, 4, (2, windows, LENGTH)) * 0.25
    bars = np.stack(
        [opened, np.maximum(opened, close) + wicks[0], np.minimum(opened, close) - wicks[1], close], axis=2
    )
    frame = pd.DataFrame(
        {
            "features": [list(window) for window in bars],
            "label": np.where(np.arange(windows) % 2, "retracement", "consolidation"),
            "expansion_start": rng.integers(30, 60, windows),
            "expansion_end": rng.integers(60, 90, windows),
        }
    )
    frame.to_parquet(path)
    return path


READ = {
    "objects": "import pandas as pd\nresult = pd.read_parquet(sys.argv[1])",
    "moola": "from moola.labels import read_raw_windows\nresult = read_raw_windows(sys.argv[1])",
}

# The libraries are there, and have read something small, before memory is looked at.
MEMORY = """
import gc, sys, threading, time
import numpy as np

def own():
    # Anonymous memory: what is mapped from files is the page cache's.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))

def watch():
    global peak
    while not done:
        peak = max(peak, own())
        time.sleep(0.001)

small, many = sys.argv[1:]
def read(path):
    sys.argv[1] = path
    scope = {{"sys": sys}}
    exec({code!r}, scope)
    return scope["result"]

read(small)
gc.collect()
before = peak = own()
done = False
thread = threading.Thread(target=watch)
thread.start()
result = read(many)
done = True
thread.join()
gc.collect()
print(own() - before, max(peak, own()) - before)
"""


def memory(side: str, small: Path, many: Path) -> tuple[int, int]:
    """Bytes held, and at the peak, over what the process had before."""
    command = [sys.executable, "-c", MEMORY.format(code=READ[side]), str(small), str(many)]
    held, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return int(held), int(peak)


def measure(_: argparse.Namespace) -> list[Figure]:
    """Both sizes; memory at the larger, where the libraries' own does not hide it."""
    import numpy as np
    import pandas as pd

    from moola.labels import read_raw_windows

    few, many = old_file(FEW), old_file(MANY)
    figures = []
    for windows, path, rounds in ((FEW, few, 15), (MANY, many, 5)):

        def stacked(path: Path = path) -> np.ndarray:
            objects = pd.read_parquet(path)["features"]
            return np.stack([np.stack(window) for window in objects]).astype(np.float32)

        taken = interleaved(
            {
                "objects": lambda path=path: pd.read_parquet(path),
                "objects, stacked": stacked,
                "moola": lambda path=path: read_raw_windows(path),
            },
            rounds,
            1,
        )
        claim = f"load time of {windows:,} raw labelled windows, pandas' object arrays made one array against moola"
        figures += [
            ratio(
                taken, "objects, stacked", "moola", f"object arrays, stacked: {windows:,} windows", "higher",
                claim=claim, bound=10.0,
            ),
            ratio(taken, "objects", "moola", f"object arrays as they are: {windows:,} windows", "higher"),
        ]  # fmt: skip
    sides = {side: [memory(side, few, many) for _ in range(3)] for side in READ}
    for what, at in (("held", 0), ("at the peak", 1)):
        shares = [
            100 * (1 - ours[at] / theirs[at])
            for ours, theirs in zip(sides["moola"], sides["objects"], strict=True)
        ]
        held = {
            f"{side} MB": round(sorted(run[at] for run in runs)[1] / 1e6, 1) for side, runs in sides.items()
        }
        figures.append(
            Figure(
                f"memory {what}, less than object arrays by percent",
                sorted(shares)[1],
                "1",
                "higher",
                claim=f"memory {what} of {MANY:,} raw labelled windows, less than object arrays by percent",
                bound=40.0,
                spread=quartiles(shares),
                detail=held,
            )
        )
    return figures


if __name__ == "__main__":
    main(measure)
