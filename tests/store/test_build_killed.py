"""Killed builds and concurrent builds: a reader finds the old store or the new one, never a mixture."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from build_processes import BUILD, Builders
from builds import (
    PRICES,
    check_sound,
    check_sound_or_replaced,
    names,
    table,
)

import moola
from moola.store import FeatureStore
from moola.store.build import build_features


def test_killed_at_any_moment_a_build_leaves_the_old_store_or_the_new(
    tmp_path: Path, builders: Builders, sample: Path
) -> None:
    kill_builds(tmp_path, builders, sample, 30, BUILD)


@pytest.mark.long
@pytest.mark.parametrize("layout", ["bars", "windows"])
def test_a_build_killed_at_many_moments_leaves_a_whole_store(
    tmp_path: Path, builders: Builders, sample: Path, layout: str
) -> None:
    kill_builds(tmp_path, builders, sample, 150, BUILD | {"layout": layout, "window_length": 20})


def kill_builds(folder: Path, builders: Builders, bars: Path, kills: int, options: dict[str, Any]) -> None:
    path = folder / "store"
    first = builders.build(bars, path, options=options)
    assert first["outcome"] == "done", first
    whole = first["ended"] - first["began"]
    before, replaced = check_sound(path).id, 0
    for k in range(kills):
        pid = builders.start(
            bars=str(bars), output=str(path), options=options, at=(at := time.monotonic() + 0.01)
        )
        # From the first step to a little after the last.
        time.sleep(max(0.0, at + 1.5 * whole * k / kills - time.monotonic()))
        os.kill(pid, signal.SIGKILL)
        builders.end(pid)
        now = check_sound(path).id
        replaced += now != before
        before = now
        # The leftovers of this build, and at most two of the probes. Those of other builds are gone.
        assert len(names(folder)) <= 3
    assert 0 < replaced < kills, "some came to their end, and some did not"
    assert builders.build(bars, path, options=options)["outcome"] == "done"
    assert check_sound(path).id != before
    assert names(folder) == ["store"]


@pytest.mark.parametrize("stage", ["read", "features", "publish"])
@pytest.mark.parametrize("old", [False, True])
def test_a_build_killed_in_every_stage_leaves_a_whole_store(
    tmp_path: Path, builders: Builders, sample: Path, stage: str, old: bool
) -> None:
    path = tmp_path / "store"
    if old:
        builders.build(sample, path, options={"window_length": 20})
        before = check_sound(path).id
    killed = builders.build(
        sample,
        path,
        options=BUILD,
        die_at=[stage, None] if stage == "publish" else [stage, 0 if stage == "features" else 131_072],
    )
    assert killed == {"status": signal.SIGKILL}
    left = [name for name in names(tmp_path) if name != "store"]
    assert len(left) == 1
    assert left[0].startswith(".store.")
    if old:
        assert check_sound(path).id == before
    else:
        assert not path.exists()
    assert builders.build(sample, path, options=BUILD)["outcome"] == "done"
    assert names(tmp_path) == ["store"]
    check_sound(path)


def test_a_killed_command_does_not_block_the_next(tmp_path: Path, sample: Path) -> None:
    path = tmp_path / "store"
    command = [sys.executable, "-m", "moola", "build-features", "--data", str(sample), "--output", str(path)]
    process = subprocess.Popen(
        [*command, "--stamp", "open"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not names(tmp_path) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    subprocess.run([*command, "--stamp", "open", "--overwrite"], check=True, capture_output=True)
    assert names(tmp_path) == ["store"]
    check_sound(path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_one_of_many_builders_wins(tmp_path: Path, builders: Builders, overwrite: bool) -> None:
    bars = tmp_path / "bars.parquet"
    pq.write_table(table(20_000), bars)
    folder = tmp_path / "stores"
    folder.mkdir()
    path = folder / "store"
    before = ""
    if overwrite:
        build_features(bars, path).close()
        before = check_sound(path).id
    at = time.monotonic() + 0.5
    pids = [
        builders.start(bars=str(bars), output=str(path), at=at, options={"overwrite": overwrite})
        for _ in range(32)
    ]
    results = [builders.end(pid) for pid in pids]
    outcomes = [result["outcome"] for result in results]
    store = check_sound(path)
    assert store.id != before
    assert names(folder) == ["store"]
    if not overwrite:
        assert outcomes.count("done") == 1
        assert set(outcomes) <= {"done", "StoreExistsError", "BuildConflictError"}
    else:
        # Builders may replace it one after the other, but not two at a time.
        assert "done" in outcomes
        assert set(outcomes) <= {"done", "BuildConflictError"}
    for result in results:
        if result["outcome"] == "StoreExistsError":
            assert (
                "there is a feature store already. Choose another name, or pass --overwrite"
                in result["message"]
            )
        elif result["outcome"] == "BuildConflictError":
            assert str(path) in result["message"]
            assert "another process " in result["message"]
            assert "choose another name" in result["message"]


def test_readers_never_see_a_mixture(tmp_path: Path) -> None:
    """Two stores replace each other repeatedly while readers check every byte."""
    path = tmp_path / "store"
    data = [table(20_000, seed) for seed in (1, 2)]
    build_features(data[0], path).close()
    price = {float(bars["open"][-1].as_py()): bars for bars in data}
    wanted = {
        last: moola.compute_features(*(bars[name].to_numpy() for name in PRICES)).tobytes()
        for last, bars in price.items()
    }
    stop = threading.Event()
    faults: list[BaseException] = []
    seen: list[tuple[str, float]] = []

    def read() -> None:
        try:
            while not stop.is_set():
                with check_sound_or_replaced(path), FeatureStore.open(path) as store:
                    last = float(store.bars[-1, 0])
                    assert store.features.tobytes() == wanted[last]
                    seen.append((store.id, last))
        except BaseException as fault:
            faults.append(fault)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for k in range(25):
        build_features(data[(k + 1) % 2], path, overwrite=True).close()
    stop.set()
    for reader in readers:
        reader.join()
    assert not faults
    assert len(set(seen)) > 5
    assert len({last for _, last in seen}) == 2
    assert names(tmp_path) == ["store"]
