"""The memory of a build does not grow with the number of bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from build_processes import Builders
from builds import (
    MINUTE,
    PRICES,
    START,
    times,
)

from moola import _core


def test_memory_does_not_grow_with_the_bars(tmp_path: Path, builders: Builders) -> None:
    grow(tmp_path, builders, 500_000, 1_500_000)


@pytest.mark.long
def test_twenty_million_bars_take_no_more_memory_than_two(tmp_path: Path, builders: Builders) -> None:
    grow(tmp_path, builders, 2_000_000, 20_000_000)


def grow(folder: Path, builders: Builders, few: int, many: int) -> None:
    """A panel in symbol order, an interleaved one, and a stream. Each needs the same memory as with fewer
    bars."""
    for order in ("grouped", "interleaved", "stream"):
        peaks = []
        for n in (few, many):
            path = folder / f"{n}.parquet"
            if order != "stream":
                write_panel(path, n, interleaved=order == "interleaved")
            result = builders.build(
                path, folder / "store", options={"overwrite": True}, stream=order == "stream"
            )
            assert result["outcome"] == "done", result
            peaks.append(result["rss"] / 2**20)
        print(f"{order}: {few:,} bars {peaks[0]:.0f} MiB, {many:,} bars {peaks[1]:.0f} MiB")
        # All batches of the larger build may be in flight at once; the smaller has only a few.
        assert peaks[1] < peaks[0] + 60, peaks
        assert peaks[1] < 450, peaks


def write_panel(path: Path, n: int, *, interleaved: bool) -> None:
    """n bars of two symbols: one symbol after the other, or alternating."""
    schema = pa.schema(
        [
            ("timestamp", pa.timestamp("ns", "UTC")),
            ("symbol", pa.string()),
            *((name, pa.float64()) for name in PRICES),
        ]
    )
    piece = 100_000
    prices = [column.copy() for column in _core.SampleBars(1).take(piece)[1:5]]
    with pq.ParquetWriter(path, schema, use_dictionary=["symbol"]) as writer:
        for first in range(0, n, piece):
            number = np.arange(first, first + piece)
            second = number % 2 if interleaved else number * 2 // n
            minute = number // 2 if interleaved else number - second * (n // 2)
            names = pa.array(np.array(["A", "B"])[second])
            writer.write_table(pa.table([times(START + minute * MINUTE), names, *prices], schema=schema))
