"""The steps between bars: exact, and in bounded memory for any number of steps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from builds import table, times

import moola

# Distinct steps: more than the engine counts while bars come in.
IRREGULAR = 90_000


@pytest.mark.parametrize("symbols", [1, 2])
def test_irregular_bars_are_counted_as_sorting_gives(tmp_path: Path, symbols: int) -> None:
    """No step divides nearly all others: bars have no length, and gaps are longer than a symbol's commonest step."""
    rng = np.random.default_rng(0)
    steps = rng.permutation(np.arange(1, IRREGULAR + 1)) * 1_000_000
    # One step occurs three times, another twice.
    steps[[10, 500, 70_000]] = 77_777_000_000
    stamps = np.cumsum(np.concatenate([[1_700_000_000_000_000_000], steps]))
    data = table(len(stamps), timestamp=times(stamps))
    if symbols == 2:
        # Bars of the two symbols take turns: each has half of the steps, of two bars each.
        data = data.append_column("symbol", [np.array(["A", "B"])[np.arange(len(stamps)) % 2]])
    pq.write_table(data, tmp_path / "bars.parquet")
    moola.build_features(tmp_path / "bars.parquet", tmp_path / "store", stamp="open").close()
    with moola.FeatureStore.open(tmp_path / "store") as store:
        gaps = short = longest = 0
        for number in range(symbols):
            own = np.diff(stamps[number::symbols])
            values, counts = np.unique(own, return_counts=True)
            interval = int(values[np.argmax(counts)])
            assert {s.bar_interval for s in store.segments[number::symbols]} == {0}
            gaps += int((own > interval).sum())
            short += int((own < interval).sum())
            longest = max(longest, int(own.max()))
        quality = store.metadata["quality"]
        assert (quality["gaps"], quality["short_steps"], quality["longest_step"]) == (gaps, short, longest)
    report = moola.verify_features(tmp_path / "store", tmp_path / "bars.parquet")
    assert report.ok, report


def test_ingest_of_irregular_bars_takes_bounded_memory(tmp_path: Path) -> None:
    program = """
import resource
import sys
import numpy as np
from moola import _core

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

kept = dict(extra=[], drop_bad_bars=False, dedup_identical=False, sort=False, reset_on_gap=None)
ingest = _core.Ingest(sys.argv[1], stamped_at_close=False, **kept)
rng, prices, last, rows = np.random.default_rng(0), np.full(100_000, 5.0), 0, 3_000_000
for first in range(0, rows, 100_000):
    times = last + np.cumsum(rng.integers(1, 1 << 40, 100_000))
    last = int(times[-1])
    ingest.push(0, first, times, prices, prices, prices, prices, [])
    if first == 0:
        before = peak()
ingest.settle([0])
ingest.finish([0])
_core.count_steps(sys.argv[1] + "/timestamps.npy", rows, [0])
print(peak() - before)
"""
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    # A count for every distinct step would take 72 MiB, and half as much again while the table grows.
    assert float(said.stdout) < 60
