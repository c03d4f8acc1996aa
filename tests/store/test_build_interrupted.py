"""Builds interrupted with Ctrl-C end within half a second and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from build_processes import Builders
from builds import (
    check_sound,
    names,
)

import moola

LIMIT = 0.5
"""Seconds that Ctrl-C may take."""


def shuffle(bars: Path, folder: Path) -> Path:
    """The same rows in random order."""
    data = pq.read_table(bars)
    pq.write_table(data.take(np.random.default_rng(1).permutation(len(data))), folder / "shuffled.parquet")
    return folder / "shuffled.parquet"


def interrupt_builds(
    folder: Path, builders: Builders, moments: Sequence[float], bars: Path, options: dict[str, Any]
) -> list[tuple[float, str]]:
    """Presses Ctrl-C in builds, these many seconds after their start. Returns how long each took and in which
    stage."""
    path = folder / "store"
    took = []
    for moment in moments:
        # A busy machine may be late once; a slow build is late every time.
        for _ in range(3):
            at = time.monotonic() + 0.01
            pid = builders.start(bars=str(bars), output=str(path), options=options, at=at)
            time.sleep(max(0.0, at + moment - time.monotonic()))
            seconds, result = builders.interrupt(pid)
            stage = (result["stages"] or [["start"]])[-1][0]
            if path.exists():
                assert stage == "publish"
                check_sound(path).close()
                shutil.rmtree(path)
            else:
                assert result["outcome"] == "KeyboardInterrupt", result
            assert names(folder) == []
            if seconds < LIMIT:
                break
        took.append((seconds, stage))
    return took


@pytest.mark.parametrize("form", ["panel", "csv", "shuffled"])
def test_ctrl_c_stops_a_build(tmp_path: Path, builders: Builders, sample: Path, form: str) -> None:
    bars = sample
    options: dict[str, Any] = {"keep": ["volume"], "stamp": "close"}
    if form == "csv":
        bars = tmp_path / "bars.csv"
        pyarrow.csv.write_csv(pq.read_table(sample), bars)
    elif form == "shuffled":
        bars = shuffle(sample, tmp_path)
        options["sort"] = True
    folder = tmp_path / "stores"
    folder.mkdir()
    first = builders.build(bars, folder / "store", options=options)
    assert first["outcome"] == "done", first
    shutil.rmtree(folder / "store")
    whole = first["ended"] - first["began"]
    took = interrupt_builds(folder, builders, [whole * k / 10 for k in range(10)], bars, options)
    assert max(took)[0] < LIMIT, took


def test_ctrl_c_stops_features_in_memory(builders: Builders) -> None:
    interrupt_compute(builders, 40)


@pytest.mark.long
def test_ctrl_c_stops_features_of_20_million_bars(builders: Builders) -> None:
    interrupt_compute(builders, 200)


def interrupt_compute(builders: Builders, repeats: int) -> None:
    whole = builders.end(builders.start("compute", times=repeats))
    computed = whole["ended"] - whole["stages"][0][1]
    for share in (0.05, 0.3, 0.6):
        wait = share * computed
        for _ in range(6):
            result = builders.end(builders.start("compute", times=repeats, interrupt_after=wait))
            seconds = result["ended"] - result.get("sent", 0.0)
            if result["outcome"] == "KeyboardInterrupt" and seconds < LIMIT:
                break
            # On a machine that has become less busy, the build was done when the signal came.
            wait /= 2
        assert result["outcome"] == "KeyboardInterrupt"
        assert seconds < LIMIT


@pytest.fixture(scope="module")
def five_years(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("market") / "bars.parquet"
    moola.make_bars(path)
    return path


@pytest.mark.long
@pytest.mark.parametrize("case", ["bars", "windows", "sort", "csv"])
def test_ctrl_c_stops_a_build_of_five_years(
    tmp_path: Path, builders: Builders, five_years: Path, case: str
) -> None:
    """At many moments; in the dense layout, after gigabytes have been written."""
    options: dict[str, Any] = {
        "stamp": "open",
        "layout": "windows" if case == "windows" else "bars",
        "sort": case == "sort",
    }
    bars = five_years
    if case == "csv":
        bars = tmp_path / "bars.csv"
        moola.make_bars(bars)
    elif case == "sort":
        bars = shuffle(five_years, tmp_path)
    folder = tmp_path / "stores"
    folder.mkdir()
    first = builders.build(bars, folder / "store", options=options)
    assert first["outcome"] == "done", first
    shutil.rmtree(folder / "store")
    whole = first["ended"] - first["began"]
    count = 10 if case == "windows" else 30
    took = interrupt_builds(folder, builders, [whole * k / count for k in range(count)], bars, options)
    print(f"{case}: {whole:.2f} s in all; Ctrl-C took at most {max(took)[0]:.3f} s, in stage {max(took)[1]}")
    assert max(took)[0] < LIMIT, took


@pytest.mark.long
def test_ctrl_c_ends_the_command_that_writes_gigabytes(tmp_path: Path, five_years: Path) -> None:
    """A process that waits for the end of its output does not wait until the gigabytes are freed either."""
    folder = tmp_path / "stores"
    folder.mkdir()
    command = [sys.executable, "-m", "moola", "build-features", "--data", str(five_years)]
    took = []
    for _ in range(3):
        process = subprocess.Popen(
            [*command, "--output", str(folder / "store"), "--layout", "windows"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        while sum(file.stat().st_size for file in folder.rglob("*.npy")) < 3 << 30:
            time.sleep(0.01)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate()
        took.append(time.monotonic() - sent)
        assert process.returncode != 0
        assert names(folder) == []
    assert min(took) < LIMIT, took


@pytest.mark.long
@pytest.mark.parametrize("case", ["left by a killed build", "replaced"])
def test_ctrl_c_does_not_wait_for_gigabytes_that_are_removed(tmp_path: Path, sample: Path, case: str) -> None:
    """However the build ends, only the name of a whole store is left."""
    folder = tmp_path / "stores"
    store = folder / "store"
    folder.mkdir()
    command = [sys.executable, "-m", "moola", "build-features", "--data", str(sample), "--output", str(store)]
    took = []
    for k in range(3):
        if case == "replaced":
            subprocess.run([*command, "--overwrite"], check=True, capture_output=True)
            large = store / "features.npy"
        else:
            large = folder / ".store.abcdefgh.moola-tmp" / "features.npy"
            large.parent.mkdir()
        with large.open("wb") as file:
            for _ in range(96):
                file.write(b"x" * (32 << 20))
        large = large.rename(large.with_name("bars.npy"))
        kept = large.open("rb")
        process = subprocess.Popen(
            [*command, "--overwrite"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        # The name goes first.
        while os.fstat(kept.fileno()).st_nlink and process.poll() is None:
            time.sleep(0.001)
        kept.close()
        time.sleep(0.05 * k)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.communicate()[0]
        took.append(time.monotonic() - sent)
        if case == "replaced":
            assert names(folder) == ["store"]
            check_sound(store).close()
        else:
            assert names(folder) == []
            assert "interrupted: nothing unfinished is left behind" in said
    print(f"{case}: Ctrl-C took at most {max(took):.3f} s")
    assert sorted(took)[-2] < LIMIT, took
