"""Source files that change during a build: bars are never recorded under the hash of other bars."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from builds import SMALL, table

from moola import _core
from moola.errors import InputError
from moola.store.build import build_features
from moola.store.cache import cached_store


def replace(path: Path) -> None:
    """Puts another file under the name, like `mv`."""
    beside = path.with_name("beside")
    write(beside, seed=5, kind=path.suffix)
    beside.replace(path)


def overwrite(path: Path) -> None:
    """Writes other bytes of the same length into the same file."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    # A coarse clock may give the file's old time.
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))


def write(path: Path, seed: int = 3, kind: str = "") -> Path:
    if (kind or path.suffix) == ".csv":
        pyarrow.csv.write_csv(table(seed=seed), path)
    else:
        pq.write_table(table(seed=seed), path)
    return path


@pytest.mark.parametrize("stage", ["read", "features"])
@pytest.mark.parametrize("change", [replace, overwrite, Path.unlink])
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_file_that_changes_during_a_build_is_refused(
    tmp_path: Path, stage: str, change: Callable[[Path], None], suffix: str
) -> None:
    path = write(tmp_path / f"bars{suffix}")
    changed = []

    def report(now: str, done: int | None, total: int | None) -> None:
        if now == stage and not changed:
            changed.append(now)
            change(path)

    with pytest.raises(InputError, match=r"changed while it was read\. Wait until it is written") as caught:
        build_features(path, tmp_path / "store", progress=report, **SMALL)
    assert str(caught.value).startswith(f"{path}: ")
    assert not (tmp_path / "store").exists()


def test_a_file_that_others_only_read_is_recorded(tmp_path: Path) -> None:
    path = write(tmp_path / "bars.parquet")

    def report(now: str, done: int | None, total: int | None) -> None:
        path.read_bytes()
        os.utime(path, ns=(0, path.stat().st_mtime_ns))
        path.chmod(0o600)

    with build_features(path, tmp_path / "store", progress=report, **SMALL) as store:
        assert store.metadata["sources"][0]["blake3"] == _core.hash_file(path)


def test_a_file_that_changes_before_it_is_read_is_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache hashes a file before the build reads it."""
    monkeypatch.setenv("MOOLA_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path / "bars.parquet")
    hash_file = _core.hash_file

    def hash_and_replace(file: Path) -> str:
        known = hash_file(file)
        if file == path:
            monkeypatch.setattr(_core, "hash_file", hash_file)
            replace(path)
        return known

    monkeypatch.setattr(_core, "hash_file", hash_and_replace)
    with pytest.raises(InputError, match="changed while it was read"):
        cached_store(path, **SMALL)
    assert not (tmp_path / "cache").exists()
    with cached_store(path, **SMALL) as store:
        assert store.metadata["sources"][0]["blake3"] == hash_file(path)
