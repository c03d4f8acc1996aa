"""The command as a process: full disks and pipes, Ctrl-C, progress, start-up."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import moola

MOOLA = [sys.executable, "-m", "moola"]


def test_a_full_disk_is_reported(execute: Any, bars: Path, tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk."""
    limit = "ulimit -f 200; trap '' XFSZ; exec \"$@\""
    command = ["bash", "-c", limit, "bash", *MOOLA]
    ran = execute("build-features", "--data", bars, "--output", tmp_path / "store", command=command)
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert ran.err.splitlines()[-1].startswith("error: ")
    assert "File too large" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_full_standard_output_is_an_error(store: Path, json: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*MOOLA, "inspect", store, *json],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "error: No space left on device. Free some space, or choose a place on another disk\n"
    )


def test_a_closed_pipe_ends_the_command(store: Path) -> None:
    process = subprocess.Popen(
        [*MOOLA, "inspect", store], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_an_interrupted_command_leaves_nothing(tmp_path: Path, more: tuple[str, ...]) -> None:
    command = [*MOOLA, "make-bars", str(tmp_path / "bars.csv"), "--bars", "50000000", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not any(tmp_path.iterdir()):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    # If the interrupt went through C code that runs Python, the signal ends Python: also 130 in a shell.
    assert process.returncode in (130, -signal.SIGINT)
    if more:
        assert json.loads(out)["error"] == "KeyboardInterrupt"
    else:
        assert err.splitlines()[-1] == "error: interrupted: nothing unfinished is left behind"
        assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_waits_until_numpy_is_ready() -> None:
    """The first use of NumPy's C functions runs Python, and an exception there would cause a panic."""
    code = """
        import os, signal
        import numpy.lib
        from moola import _core

        class Interrupted(numpy.lib.NumpyVersion):
            def __init__(self, version):
                os.kill(os.getpid(), signal.SIGINT)
                super().__init__(version)

        numpy.lib.NumpyVersion = Interrupted
        try:
            _core.load_numpy()
            raise SystemExit("was not interrupted")
        except KeyboardInterrupt:
            pass
        _core.load_numpy()
        print(_core.permute(numpy.arange(3), 3, 1))
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[")


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    # Enough bars that the build is still running when a busy machine delivers the signal.
    moola.make_bars(tmp_path / "bars.parquet", 4_000_000)
    command = [*MOOLA, "build-features", "--data", "bars.parquet", "--output", "store"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, bufsize=1
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "reading bars …\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("error: interrupted: nothing unfinished is left behind\n")
    assert [path.name for path in tmp_path.iterdir()] == ["bars.parquet"]


def test_a_progress_bar_is_shown_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*MOOLA, "make-bars", str(tmp_path / "bars.csv"), "--bars", "1000000"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:  # That is how Linux says that the other end is closed.
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"making bars" in seen
    assert b"1000000" in seen
    assert seen.count(b"\x1b[?25l") == seen.count(b"\x1b[?25h") == 1, (
        "the cursor is hidden once, and shown again"
    )
    assert out.startswith(b"bars        1,000,000, ")


def test_start_up_imports_little() -> None:
    """The command line does not import what a command does not need."""
    heavy = ("numpy", "pyarrow", "pydantic", "rich.console", "ruamel", "torch")
    code = f"import sys, moola.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
