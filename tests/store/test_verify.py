"""Verification of sound stores and of paths without a store, and the options of verification."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tampering import (
    EVERYTHING,
    HASHES,
    LAYOUTS,
    OPTIONS,
    copy,
    findings,
    panel_bars,
    plain_bars,
    seal,
)

import moola
from moola import _core
from moola.errors import ConfigError, StaleStoreError, StoreMissingError
from moola.splits import count_windows
from moola.store import FeatureStore
from moola.store.verify.report import verify_features


def test_sound_stores_pass(either: tuple[Path, Path]) -> None:
    store, bars = either
    before = {p.name: p.read_bytes() for p in store.iterdir()}
    report = verify_features(store, bars)
    assert report.ok, report.checks
    assert [check.name for check in report.checks] == [*EVERYTHING, "source"]
    assert all(check.detail for check in report.checks)
    assert report.path == store
    assert {p.name: p.read_bytes() for p in store.iterdir()} == before
    # Sealing again changes nothing, so the tests find only the tampering.
    seal(store)
    assert {p.name: p.read_bytes() for p in store.iterdir()} == before


@pytest.mark.parametrize("feature_set", _core.feature_sets())
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_feature_set_passes(feature_set: str, layout: str, tmp_path: Path) -> None:
    moola.build_features(
        panel_bars(), tmp_path / "s", feature_set=feature_set, layout=layout, config={"warmup_bars": 20},
        window_length=15, train_end="2024-01-01", val_end="2024-01-01", test_end="2024-01-02", tz="Asia/Tokyo",
        stamp="close",
    )  # fmt: skip
    report = verify_features(tmp_path / "s", panel_bars())
    assert report.ok, report.checks


def test_prices_at_the_limits_pass(tmp_path: Path) -> None:
    """The made-up future of the causality check must also be valid bars."""
    for scale in (1.3e-38 / 60, 3.3e38 / 200):
        bars = plain_bars()
        for i, name in enumerate(bars.column_names):
            if name in ("open", "high", "low", "close"):
                bars = bars.set_column(i, name, pa.array(bars[name].to_numpy() * scale))
        store = tmp_path / str(scale)
        moola.build_features(bars, store, **OPTIONS["plain"])
        report = verify_features(store, bars, samples=40)
        assert report.ok, report.checks


def test_the_report_of_real_bars_is_complete(tmp_path: Path) -> None:
    shared = os.environ.get("MOOLA_SHARED")
    if shared is None:
        pytest.skip("MOOLA_SHARED is not set")
    bars = Path(shared) / "data" / "btcusdt_1min_2023-03.csv"
    moola.build_features(bars, tmp_path / "s", reset_on_gap="1h")
    report = verify_features(tmp_path / "s", bars)
    assert report.ok, report.checks


def test_a_missing_store_is_reported(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    for name in ("nothing", "folder", "file", "nothing/below"):
        with pytest.raises(StoreMissingError):
            verify_features(tmp_path / name)


def test_truncated_and_missing_files_are_found(either: tuple[Path, Path]) -> None:
    store, _ = either
    for path in sorted(store.iterdir()):
        data = path.read_bytes()
        for size in {0, 1, 127, 128, len(data) // 2, len(data) - 1}:
            if size < len(data):
                path.write_bytes(data[:size])
                failed = findings(verify_features(store))
                assert path.name in failed["opens"], (path.name, size)
        path.write_bytes(data + b"\0")
        assert path.name in findings(verify_features(store))["opens"]
        path.unlink()
        assert path.name in findings(verify_features(store))["opens"]
        os.mkfifo(path)
        assert path.name in findings(verify_features(store))["opens"]
        path.unlink()
        path.write_bytes(data)
    (store / "other").touch()
    assert "other" in findings(verify_features(store))["opens"]


def test_a_file_of_another_store_is_found(panel: tuple[Path, Path], tmp_path: Path) -> None:
    store, _ = panel
    options = OPTIONS["panel"] | {"config": OPTIONS["panel"]["config"] | {"zigzag_k": 3.0}}
    moola.build_features(panel_bars(), tmp_path / "other", **options)
    shutil.copy(tmp_path / "other" / "features.npy", store)
    failed = findings(verify_features(store))
    assert failed["hashes"] == "features.npy: not the BLAKE3 that checksums.b3 has"
    assert "recomputed" in failed


@pytest.mark.parametrize("at", EVERYTHING[1:])
def test_a_store_replaced_during_verification_is_an_error(panel: tuple[Path, Path], at: str) -> None:
    store, bars = panel
    checked = []

    def replace(name: str, done: int | None, total: int | None) -> None:
        checked.append(name)
        if name == at:
            moola.build_features(bars, store, overwrite=True, **OPTIONS["panel"])

    with pytest.raises(StaleStoreError, match=r"replaced.* Verify what is there now"):
        verify_features(store, progress=replace)
    assert checked[-1] == at
    assert verify_features(store).ok


def test_a_store_moved_away_during_verification_is_an_error(panel: tuple[Path, Path], tmp_path: Path) -> None:
    store, _ = panel
    with pytest.raises(StaleStoreError):
        verify_features(
            store, progress=lambda name, *_: name == "ranges" and store.rename(tmp_path / "moved")
        )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("at", EVERYTHING[1:])
def test_files_truncated_during_verification_are_findings(
    layout: str, at: str, built: Any, tmp_path: Path
) -> None:
    """One finding each. Reading through a map would kill the process."""
    store, bars = copy(built("panel", layout), tmp_path)

    def truncate(name: str, done: int | None, total: int | None) -> None:
        if name == at:
            for path in store.iterdir():
                os.truncate(path, 0)

    failed = findings(verify_features(store, bars, progress=truncate))
    assert at in failed or at == "identity"
    assert set(EVERYTHING[EVERYTHING.index(at) + 1 :]) - {"identity"} <= set(failed)


def test_reproducibility_may_be_skipped(either: tuple[Path, Path]) -> None:
    store, bars = either
    report = verify_features(store, reproducibility=False)
    assert [check.name for check in report.checks] == HASHES
    report = verify_features(store, bars, reproducibility=False)
    assert [check.name for check in report.checks] == [*HASHES, "source"]


def test_the_number_of_samples_can_be_set(either: tuple[Path, Path]) -> None:
    store, _ = either
    with FeatureStore.open(store) as opened:
        windows = count_windows(opened, [[0, len(opened)]], opened.window_length)
    for samples, drawn in (
        (0, 0),
        (1, 1),
        (7, 7),
        (windows, windows),
        (windows + 1, windows),
        (10**9, windows),
    ):
        report = verify_features(store, samples=samples)
        assert report.ok
        details = {check.name: check.detail for check in report.checks}
        assert details["streamed"].startswith(f"{drawn:,} windows ")
        assert f" {drawn:,} cuts " in details["causal"]
    for samples in (-1, 1.5, "5", None, True):
        with pytest.raises(ConfigError, match=r"samples: .* is not a number of windows; give 0 or more"):
            verify_features(store, samples=samples)  # type: ignore[arg-type]


def test_progress_is_reported(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    calls: list[Any] = []
    report = verify_features(store, bars, progress=lambda *args: calls.append(args))
    names = [check.name for check in report.checks][1:]
    assert calls == [(name, i, len(names)) for i, name in enumerate(names)]


def test_relative_paths_are_verified(panel: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = panel
    monkeypatch.chdir(store.parent)
    assert verify_features("store").ok
    report = verify_features(Path("store"))
    assert report.path == Path("store")


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Files are read in pieces, not through maps, which count as memory."""
    moola.make_bars(tmp_path / "bars.parquet", 60_000)
    moola.build_features(tmp_path / "bars.parquet", tmp_path / "store", layout="windows")
    size = sum(p.stat().st_size for p in (tmp_path / "store").iterdir())
    assert size > 240 << 20
    program = """
        import resource, sys, moola
        from moola.verify import verify_features
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert verify_features(sys.argv[1]).ok
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "store")]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 64 << 10  # KiB
