"""Measuring how fast a store is served: the library, the command, and its old name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_store import build

from moola.data.dataset import FastWindowedDataset
from moola.data.fast_windowed_loader import create_fast_dataloaders
from moola.data.throughput import measure_throughput
from moola.errors import ConfigError

MODULE = ("moola.data.fast_windowed_loader",)
COMMAND = ("moola", "serve-windows")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "store"
    build(path).close()
    return path


def run(door: tuple[str, ...], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", *door, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("door", [MODULE, COMMAND], ids=["module", "command"])
def test_the_command_reports_the_throughput(store: Path, tmp_path: Path, door: tuple[str, ...]) -> None:
    result = run(door, "--feature-dir", store, "--batch-size", 16, "--stride", 3, "--seconds", 0.1)
    assert (result.returncode, result.stderr) == (0, "")
    assert "windows of 10 bars, 3 features: f0, f1, f2" in result.stdout
    windows = len(FastWindowedDataset(store, stride=3))
    assert f"train: {windows:>13,} windows, {windows // 16:>11,} batches of 16" in result.stdout
    assert "windows/s" in result.stdout
    result = run(door, "--feature-dir", tmp_path / "none")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'none'}: there is no feature store")
    result = run(door, "--feature-dir", store, "--seconds", 0)
    assert result.returncode == 2
    assert result.stderr == "error: --seconds: 0 is not a time to serve for; give a positive number\n"
    result = run(door, "--feature-dir", store, "--batch-size", 10_000)
    assert result.returncode == 0
    assert result.stdout.endswith("train has no full batch: nothing to serve\n")


def test_several_stores_are_measured(store: Path, tmp_path: Path) -> None:
    """The module takes several directories after one `--feature-dir`; the command repeats the option."""
    build(tmp_path / "other", lengths=(90,)).close()
    options = ("--batch-size", 8, "--seconds", 0.05, "--json")
    one = run(MODULE, "--seed", 3, "--feature-dir", store, tmp_path / "other", *options)
    two = run(COMMAND, "--seed", 3, "--feature-dir", store, "--feature-dir", tmp_path / "other", *options)
    first, second = json.loads(one.stdout), json.loads(two.stdout)
    windows = len(FastWindowedDataset([store, tmp_path / "other"]))
    assert first["splits"]["train"] == {"windows": windows, "batches": windows // 8}
    assert first["splits"] == second["splits"]
    assert first["served"]["batches"] >= 1
    assert first["served"]["windows_per_second"] > 0


def test_help_needs_no_torch() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['x', '--help']\n"
        "try:\n    runpy.run_module('moola.data.fast_windowed_loader', run_name='__main__', alter_sys=True)\n"
        "finally:\n    assert 'torch' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "--feature-dir" in result.stdout


def test_at_least_one_batch_is_measured(store: Path) -> None:
    loader = create_fast_dataloaders(store, 8, mask_ratio=0.5, seed=0).train
    served = measure_throughput(loader, 1e-12)
    assert served.batches == 1
    assert 0.4 < served.masked <= 0.5
    assert served.batch_bytes == 8 * 10 * (3 * 4 + 1 + 1)
    assert served.windows_per_second == served.batches * 8 / served.seconds


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_seconds_must_be_positive(store: Path, seconds: float) -> None:
    loader = create_fast_dataloaders(store, 8, seed=0).train
    with pytest.raises(ConfigError, match="is not a time to serve for; give a positive number"):
        measure_throughput(loader, seconds)


def test_a_loader_without_a_batch_is_refused(store: Path) -> None:
    loader = create_fast_dataloaders(store, 10_000, seed=0).train
    with pytest.raises(ConfigError, match="there is no batch of 10000 windows; give fewer"):
        measure_throughput(loader)
