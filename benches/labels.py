"""Labelled windows as moola stores them, against the object arrays that pandas makes of nested columns.

The file is that of the older pipeline: one row per window, with a column `features` of 105 arrays of open, high, low and
close. There is a file of 174 windows and one of 10,000. The older pipeline reads it before each training:
`pandas.read_parquet` gives objects, which are stacked, because a model needs an array. moola imports the file once: it
checks every bar, computes the features, looks for overlaps and writes its own file. From then on it loads that file.
The claims compare the loading. The time of the import is also shown.

- **Time**: in one process, interleaved, with the files in the page cache.
- **Memory**: in a fresh process for each side: the additional memory while it holds the result, and at its peak.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from benchmark import WORK, Figure, interleaved, main, quartiles, ratio

LENGTH = 105
FEW, MANY = 174, 10_000


def old_file(windows: int) -> Path:
    """Labelled windows of a random walk on a tick grid, written by pandas in the older layout."""
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
    "objects": "import pandas as pd\nresult = pd.read_parquet(sys.argv[1] + '.parquet')",
    "loading": "from moola.labels import LabelledWindows as L\nresult = L.load(sys.argv[1] + '.safetensors')",
    "import": "from moola.labels import read_raw_windows\nresult = read_raw_windows(sys.argv[1] + '.parquet')",
}

# Memory is measured after the libraries were imported and have read a small file.
MEMORY = """
import gc, sys, threading, time
import numpy as np

def own():
    # Anonymous memory. Mapped files do not count: they belong to the page cache.
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
    """Additional bytes of the process, while it holds the result and at the peak."""
    paths = [str(path.with_suffix("")) for path in (small, many)]
    command = [sys.executable, "-c", MEMORY.format(code=READ[side]), *paths]
    held, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return int(held), int(peak)


def measure(_: argparse.Namespace) -> list[Figure]:
    """Times for both sizes, and memory for the larger: at the smaller, the libraries' own memory hides it."""
    import numpy as np
    import pandas as pd

    from moola.labels import LabelledWindows, read_raw_windows

    figures = []
    for windows, rounds in ((FEW, 15), (MANY, 5)):
        old = old_file(windows)
        new = old.with_suffix(".safetensors")
        read_raw_windows(old).save(new)

        def stacked(path: Path = old) -> np.ndarray:
            objects = pd.read_parquet(path)["features"]
            return np.stack([np.stack(window) for window in objects]).astype(np.float32)

        taken = interleaved(
            {
                "objects": lambda path=old: pd.read_parquet(path),
                "objects, stacked": stacked,
                "loading": lambda path=new: LabelledWindows.load(path),
                "import": lambda path=old: read_raw_windows(path),
            },
            rounds,
            1,
        )
        what = f"{windows:,} labelled windows"
        claim = f"load time of {what}, imported, against object arrays that are made one array"
        figures += [
            ratio(
                taken, "objects, stacked", "loading", f"object arrays, stacked, against loading: {what}", "higher",
                claim=claim, bound=10.0,
            ),
            ratio(taken, "objects", "loading", "  object arrays as they are, against loading", "higher"),
            ratio(taken, "objects, stacked", "import", "  object arrays, stacked, against the import", "higher"),
        ]  # fmt: skip
    few, many = old_file(FEW), old_file(MANY)
    runs = {side: [memory(side, few, many) for _ in range(3)] for side in READ}
    for side, which, at, bound in (
        ("loading", "held", 0, 40.0),
        ("loading", "at the peak", 1, 40.0),
        ("import", "at the peak", 1, None),
    ):
        shares = [
            100 * (1 - ours[at] / theirs[at])
            for ours, theirs in zip(runs[side], runs["objects"], strict=True)
        ]
        claim = f"memory {which} by {MANY:,} labelled windows, imported, less than by object arrays, percent"
        figures.append(
            Figure(
                f"memory {which}, {side}: less than object arrays, percent",
                statistics.median(shares),
                "1",
                "higher",
                claim=claim if bound else "",
                bound=bound,
                spread=quartiles(shares),
                detail={
                    f"{name} MB": round(statistics.median(run[at] for run in runs[name]) / 1e6, 1)
                    for name in ("objects", side)
                },
            )
        )
    return figures


if __name__ == "__main__":
    main(measure)
