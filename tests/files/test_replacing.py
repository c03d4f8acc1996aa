"""Replacing a file: a reader sees a whole file, even if several writers write or are killed."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from moola.errors import StoreWriteError
from moola.files import publishing
from moola.files.publishing import replacing_file, write_file


def test_each_file_of_several_writers_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing_file(path) as one:
        one.write_bytes(b"one")
        with replacing_file(path) as other:
            assert other != one
            other.write_bytes(b"other")
        assert path.read_bytes() == b"other"
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["file"]


def test_the_next_writer_removes_leftovers_of_a_killed_writer(tmp_path: Path) -> None:
    left, foreign = tmp_path / ".file.0123abcd.moola-tmp", tmp_path / ".file2.0123abcd.moola-tmp"
    for path in (left, foreign):
        path.touch()
    with left.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        write_file(tmp_path / "file", b"x")
        assert left.exists(), "somebody is at work on it"
    write_file(tmp_path / "file", b"y")
    assert sorted(os.listdir(tmp_path)) == [foreign.name, "file"]


def test_a_file_that_another_process_removed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    with pytest.raises(StoreWriteError, match="cannot be written: No such file"):  # noqa: SIM117
        with replacing_file(tmp_path / "file") as beside:
            beside.unlink()
    assert (tmp_path / "file").read_bytes() == b"before"


def test_a_file_removed_by_another_writer_before_the_lock_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    removed = []
    lock = fcntl.flock

    def flock(file: Any, operation: int) -> None:
        if len(removed) < 3 and operation == fcntl.LOCK_EX:
            # Another writer is faster at this moment.
            removed.append(Path(file.name))
            removed[-1].unlink()
        lock(file, operation)

    monkeypatch.setattr(publishing.fcntl, "flock", flock)
    work = 0
    with replacing_file(path) as beside:
        work += 1
        beside.write_bytes(b"x")
    assert work == 1
    assert len(set(removed)) == 3
    assert path.read_bytes() == b"x"
    assert os.listdir(tmp_path) == ["file"]


def test_concurrent_writers_lose_no_work(tmp_path: Path) -> None:
    path = tmp_path / "file"
    writers, rounds = 8, 60
    start = threading.Barrier(writers)
    lost: list[BaseException] = []

    def write(number: int) -> None:
        start.wait()
        for k in range(rounds):
            try:
                write_file(path, f"{number} {k}".encode() * 100)
            except BaseException as error:
                lost.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    number, k = path.read_text()[:4].split()[0], rounds - 1
    assert path.read_text() == f"{number} {k}" * 100
    assert os.listdir(tmp_path) == ["file"]
