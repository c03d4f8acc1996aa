"""Stores to tamper with, and tampering by someone who knows the format: sizes and checksums are recomputed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from moola import _core
from moola.files.json import dump_json
from moola.store.layout import CHECKSUMS, METADATA, SPLITS, dump_checksums
from moola.store.verify.report import VerificationReport, verify_features

MINUTE = 60_000_000_000
START = 1_704_067_200_000_000_000  # 2024-01-01
HASHES = ["opens", "hashes", "json", "identity", "ranges", "times", "quality", "masks", "splits"]
EVERYTHING = [*HASHES, "recomputed", "streamed", "causal"]
KINDS = ["plain", "panel"]
LAYOUTS = ["bars", "windows"]


def walk(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    close = np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.004, n))) * 4) / 4
    open_ = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(open_, close) + rng.integers(0, 3, n) / 4
    low = np.minimum(open_, close) - rng.integers(0, 3, n) / 4
    return {"open": open_, "high": high, "low": low, "close": close, "volume": rng.integers(1, 99, n) * 1.0}


def plain_bars() -> pa.Table:
    """One series, for the smallest store: its JSON is flipped bit by bit."""
    rng = np.random.default_rng(1)
    return pa.table(
        {"timestamp": pa.array(START + np.arange(60) * MINUTE, pa.timestamp("ns", "UTC"))} | walk(rng, 60)
    )


def panel_bars() -> pa.Table:
    """Three symbols, interleaved: missing minutes, a short step, long breaks, a jump, zero-range bars, a roll."""
    rng = np.random.default_rng(2)
    tables = []
    for symbol, n in (("B", 150), ("A", 180), ("C", 90)):
        steps = np.where(rng.random(n) < 0.05, rng.integers(2, 6, n), 1)
        steps[[60, 63, 100 % n]] = 300
        half = np.arange(n) == 10
        times = START + np.cumsum(steps) * MINUTE - np.cumsum(half) * (MINUTE // 2)
        columns = walk(rng, n)
        for name in ("open", "high", "low", "close"):
            columns[name][40:] *= 2 if symbol == "A" else 1
            columns[name][20] = columns["close"][19]
        contract = np.where(np.arange(n) < 110, "H4", "M4")
        times = pa.array(times, pa.timestamp("ns", "UTC"))
        tables.append(pa.table({"timestamp": times, "symbol": [symbol] * n, "contract": contract} | columns))
    return pa.concat_tables(tables).sort_by([("timestamp", "ascending"), ("symbol", "descending")])


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"feature_set": "ohlc4", "config": {"atr_period": 2, "warmup_bars": 3}, "window_length": 4},
    "panel": {
        "config": {"atr_period": 3, "zscore_period": 4, "warmup_bars": 12},
        "window_length": 6,
        "keep": "volume",
        "reset_on_gap": "2h",
        "segment_by": "symbol,contract",
        "split": (0.6, 0.2, 0.2),
        "embargo": 3,
    },
}
BARS: dict[str, Callable[[], pa.Table]] = {"plain": plain_bars, "panel": panel_bars}


def copy(built: tuple[Path, Path], folder: Path) -> tuple[Path, Path]:
    shutil.copytree(built[0], folder / "store")
    return folder / "store", built[1]


def edit_json(store: Path, name: str, change: Callable[[Any], None]) -> None:
    value = json.loads((store / name).read_bytes())
    change(value)
    (store / name).write_bytes(dump_json(value))
    seal(store)


def edit_metadata(store: Path, change: Callable[[Any], None]) -> None:
    edit_json(store, METADATA, change)


def edit_array(store: Path, name: str, change: Callable[[np.ndarray], None]) -> None:
    array = np.load(store / name, mmap_mode="r+")
    change(array)
    array.flush()
    seal(store)


def seal(store: Path) -> None:
    metadata = json.loads((store / METADATA).read_bytes())
    if isinstance(metadata.get("files"), dict) and isinstance(metadata["files"].get(SPLITS), dict):
        metadata["files"][SPLITS]["bytes"] = (store / SPLITS).stat().st_size
        (store / METADATA).write_bytes(dump_json(metadata))
    hashes = {p.name: _core.hash_file(p) for p in store.iterdir() if p.name != CHECKSUMS}
    (store / CHECKSUMS).write_bytes(dump_checksums(hashes))


def features_of(store: Path) -> str:
    return next(p.name for p in store.iterdir() if p.name.startswith("features"))


def findings(report: VerificationReport) -> dict[str, str]:
    assert report.ok == all(check.ok for check in report.checks)
    return {check.name: check.detail for check in report.checks if not check.ok}


def found(store: Path, data: Any = None, **options: Any) -> dict[str, str]:
    """The failed checks of a store that was sealed again."""
    failed = findings(verify_features(store, data, **options))
    assert not {"opens", "hashes", "json"} & set(failed), failed
    return failed
