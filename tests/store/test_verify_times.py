"""Verification of times, segments and the quality report that were changed and sealed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tampering import (
    LAYOUTS,
    MINUTE,
    OPTIONS,
    edit_array,
    edit_metadata,
    found,
    panel_bars,
)

import moola
from moola.store import FeatureStore
from moola.store.verify.report import verify_features


@pytest.mark.parametrize("to", ["before", "equal", "far", "least", "most"])
def test_a_changed_timestamp_is_found(either: tuple[Path, Path], to: str) -> None:
    store, bars = either
    row = 5
    times = np.array(FeatureStore.open(store).timestamps)
    limits = np.iinfo(np.int64)
    value = {
        "before": times[row - 1] - 1, "equal": times[row - 1], "far": times[row] + 1000 * MINUTE,
        "least": limits.min, "most": limits.max,
    }[to]  # fmt: skip
    edit_array(store, "timestamps.npy", lambda x: x.__setitem__(row, value))
    failed = found(store, bars)
    assert f"row {row if to in ('before', 'equal', 'least') else row + 1} at " in failed["times"] or (
        "gap" in failed["times"]
    )
    assert f"timestamps.npy: row {row} at " in failed["source"]


def test_a_changed_timestamp_in_order_is_found(panel: tuple[Path, Path]) -> None:
    """Moved by a nanosecond: still in order, but the steps are counted again."""
    store, bars = panel
    edit_array(store, "timestamps.npy", lambda x: x.__setitem__(5, x[5] + 1))
    failed = found(store, bars)
    assert set(failed) == {"quality", "source"}


def test_changed_times_of_segments_are_found(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    for field, by in (("first_timestamp", -MINUTE), ("last_timestamp", MINUTE)):
        edit_metadata(store, lambda m, f=field, b=by: m["segments"][1].update({f: m["segments"][1][f] + b}))
        assert f"{field} of segment 1" in found(store)["times"]
        edit_metadata(store, lambda m, f=field, b=by: m["segments"][1].update({f: m["segments"][1][f] - b}))
    assert found(store) == {}


def recut(store: Path, rows: list[int]) -> None:
    """Segments that begin at these rows. Their times and all dependent counts are adjusted."""
    with FeatureStore.open(store) as opened:
        times, old, count = opened.timestamps, opened.segments, len(opened)
        of = np.searchsorted([s.first_row for s in old], rows, side="right") - 1
        segments = []
        for i, first in enumerate(rows):
            last = (rows[i + 1] if i + 1 < len(rows) else count) - 1
            same = old[of[i]]
            valid = same.first_valid if first == same.first_row else first + 15
            valid = valid if valid is not None and valid <= last else None
            times_ = {"first_timestamp": int(times[first]), "last_timestamp": int(times[last])}
            segments.append(
                same._asdict() | times_ | {"first_row": first, "last_row": last, "first_valid": valid}
            )
    edit_metadata(store, lambda m: m.update(segments=segments))


def without_contracts(tmp_path: Path) -> Path:
    options = OPTIONS["panel"] | {"segment_by": "symbol"}
    moola.build_features(panel_bars(), tmp_path / "s", **options).close()
    return tmp_path / "s"


def test_a_segment_cut_without_a_gap_is_found(tmp_path: Path) -> None:
    store = without_contracts(tmp_path)
    rows = [s.first_row for s in FeatureStore.open(store).segments]
    recut(store, sorted([*rows, rows[1] + 10]))
    failed = found(store)
    assert "begins a segment, but" in failed["times"]
    assert {"quality", "masks", "recomputed"} <= set(failed)


def test_a_segment_that_should_have_ended_is_found(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    rows = [s.first_row for s in FeatureStore.open(store).segments]
    recut(store, [row for row in rows if row != rows[1]])
    failed = found(store, bars)
    assert "gap that should have begun a segment" in failed["times"]
    assert {"quality", "recomputed", "source"} <= set(failed)


def test_a_segment_cut_at_another_row_is_found_despite_contracts(panel: tuple[Path, Path]) -> None:
    """Only the source has the contracts. Without it, values that cannot be recomputed must be consistent."""
    store, bars = panel
    rows = [s.first_row for s in FeatureStore.open(store).segments]
    recut(store, sorted([*rows, rows[1] + 10]))
    failed = found(store, bars)
    assert {"quality", "recomputed", "source"} <= set(failed)
    assert "segment" in failed["source"]


def test_a_changed_symbol_is_found(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    edit_metadata(store, lambda m: [s.update(symbol="Z") for s in m["segments"] if s["symbol"] == "A"])
    failed = found(store, bars)
    assert {"times", "source"} <= set(failed)
    edit_metadata(store, lambda m: [s.update(symbol="AA") for s in m["segments"] if s["symbol"] == "Z"])
    assert set(found(store, bars)) == {"source"}


def test_two_symbols_merged_into_one_are_found(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_metadata(store, lambda m: [s.update(symbol="A") for s in m["segments"] if s["symbol"] == "B"])
    assert "is not later than the row before" in found(store)["times"]


def test_a_changed_bar_interval_is_found(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_metadata(store, lambda m: m["segments"][-1].update(bar_interval=2 * MINUTE))
    assert "two bar intervals" in found(store)["times"]
    edit_metadata(store, lambda m: [s.update(bar_interval=2 * MINUTE) for s in m["segments"]])
    assert "its steps give 60000000000 ns" in found(store)["quality"]


def test_every_changed_count_of_the_quality_report_is_found(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    quality = FeatureStore.open(store).metadata["quality"]
    # The bars have some of everything that is not dropped.
    assert {k for k, n in quality.items() if n == 0} == {
        "dropped_bad_bars",
        "dropped_duplicates",
        "another_interval",
    }
    for key, count in quality.items():
        for other in (count + 1, count - 1, None, "1"):
            edit_metadata(store, lambda m, k=key, n=other: m["quality"].update({k: n}))
            failed = found(store, bars)
            assert set(failed) & {"identity", "quality"}, (key, other, failed)
        edit_metadata(store, lambda m, k=key: m["quality"].pop(k))
        assert set(found(store, bars)) & {"identity", "quality"}, key
        edit_metadata(store, lambda m: m.update(quality=quality))
    assert found(store, bars) == {}


def test_exchanged_counts_of_gap_and_contract_segments_are_found(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    gaps, contracts = "segments_from_gaps", "segments_from_contracts"
    quality = FeatureStore.open(store).metadata["quality"]
    edit_metadata(
        store, lambda m: m["quality"].update({gaps: quality[gaps] + quality[contracts], contracts: 0})
    )
    failed = found(store, bars)
    assert "segments of contracts and gaps" in failed["quality"]
    assert "segments_from" in failed["source"]


def test_dropped_bars_without_the_option_are_found(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    for key in ("dropped_bad_bars", "dropped_duplicates"):

        def change(metadata: Any, key: str = key, by: int = 1) -> None:
            metadata["quality"][key] += by
            metadata["sources"][0]["rows"] += by

        edit_metadata(store, change)
        failed = found(store, bars)
        assert {"identity", "source"} == set(failed)
        edit_metadata(store, lambda m, k=key, c=change: c(m, k, -1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dropped_bars_are_counted(layout: str, tmp_path: Path) -> None:
    bars = panel_bars()
    volume = bars["volume"].to_numpy().copy()
    volume[[17, 200]] = np.nan
    bars = bars.set_column(bars.column_names.index("volume"), "volume", pa.array(volume, from_pandas=True))
    bars = pa.concat_tables([bars.slice(0, 30), bars.slice(29, 1), bars.slice(30)])
    options = OPTIONS["panel"] | {"drop_bad_bars": True, "dedup": "identical", "sort": True, "layout": layout}
    store = moola.build_features(bars, tmp_path / "s", **options)
    assert (
        store.metadata["quality"]["dropped_bad_bars"],
        store.metadata["quality"]["dropped_duplicates"],
    ) == (2, 1)
    report = verify_features(tmp_path / "s", bars)
    assert report.ok, report.checks
