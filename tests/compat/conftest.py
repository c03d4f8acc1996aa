"""Files saved by earlier versions, copied to a writable place, and comparisons of the results they give."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moola.__main__ import main

KEPT = Path(__file__).parents[1] / "data" / "compat"
VARIES = "varies"
"""What `make.py` writes for a number that two runs of one command do not share, such as a time."""

# Tolerance for networks on another processor or with another torch, where sums have another order.
TOLERANCE = 1e-4


def versions() -> list[str]:
    return sorted(path.name for path in KEPT.iterdir() if path.is_dir() and path.name[0].isdigit())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "version" in metafunc.fixturenames:
        metafunc.parametrize("version", versions(), scope="module")


@pytest.fixture(scope="module")
def shared_copy(version: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One copy for the tests of a file, which may only add to it."""
    return Path(shutil.copytree(KEPT / version, tmp_path_factory.mktemp("kept") / version))


@pytest.fixture
def kept(shared_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files saved by a version. Their directory is the working directory, and paths in them are relative
    to it."""
    monkeypatch.chdir(shared_copy)
    monkeypatch.setenv("MOOLA_CACHE", str(tmp_path / "cache"))
    return shared_copy


@pytest.fixture
def own(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, but the test may change anything."""
    copy = Path(shutil.copytree(KEPT / version, tmp_path / version))
    monkeypatch.chdir(copy)
    monkeypatch.setenv("MOOLA_CACHE", str(tmp_path / "cache"))
    return copy


Run = Callable[..., Any]


@pytest.fixture
def moola_json(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command like the `moola` script, and returns its `--json` output."""

    def run(*arguments: str) -> Any:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["moola", *arguments, "--json"])
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            # Old names may give a deprecation warning.
            warnings.simplefilter("ignore", DeprecationWarning)
            with pytest.raises(SystemExit) as ended:
                main()
        # A gate that fails, and a verification, exit with 1 and print what they found.
        assert ended.value.code in (0, None, 1), err.getvalue()
        printed = json.loads(out.getvalue())
        assert "error" not in printed, printed
        return printed

    return run


@pytest.fixture(scope="module")
def same_machine(version: str) -> bool:
    """Whether networks give the same bits here as on the machine that made the files."""
    import torch

    made_by = json.loads((KEPT / version / "made_by.json").read_text())
    try:
        processors = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next((line for line in processors.splitlines() if line.startswith("flags")), "")
    digest = hashlib.blake2b(" ".join(sorted(flags.split())).encode(), digest_size=8).hexdigest()
    return torch.__version__ == made_by["torch"] and digest == made_by["processor_flags"]


@pytest.fixture
def networks_agree(same_machine: bool) -> Callable[..., None]:
    """Compares outputs of networks: bit for bit if the machine is of the kind that made the files."""

    def compare(then: Any, now: Any, what: str) -> None:
        then, now = np.asarray(then), np.asarray(now)
        assert now.dtype == then.dtype, what
        assert now.shape == then.shape, what
        if same_machine:
            np.testing.assert_array_equal(now, then, err_msg=what)
        else:
            np.testing.assert_allclose(now, then, rtol=TOLERANCE, atol=TOLERANCE, err_msg=what)

    return compare


@pytest.fixture
def tables_agree(networks_agree: Callable[..., None]) -> Callable[[Path, Path], None]:
    """Compares Parquet files written by networks: every old column must exist now with the same values."""

    def compare(then: Path, now: Path) -> None:
        old, new = pq.read_table(then), pq.read_table(now)
        assert set(old.column_names) <= set(new.column_names)
        assert len(old) == len(new) > 0
        for field in old.schema:
            a, b = old[field.name], new[field.name]
            assert a.type == b.type, field.name
            assert a.is_null().equals(b.is_null()), field.name
            if pa.types.is_floating(field.type):
                networks_agree(a.to_numpy(), b.to_numpy(), field.name)
            else:
                assert a.equals(b), field.name

    return compare


def _agree(then: Any, now: Any, path: str, ignoring: frozenset[str], tolerance: float) -> None:
    if then == VARIES:
        return
    if isinstance(then, dict):
        assert isinstance(now, dict), path
        for key, value in then.items():
            assert key in now, f"{path} has no {key!r}"
            if key not in ignoring:
                _agree(value, now[key], f"{path}.{key}", ignoring, tolerance)
    elif isinstance(then, list):
        assert isinstance(now, list), path
        # The number of sentences is not promised.
        if not any(isinstance(one, str) and " " in one for one in then):
            assert len(now) == len(then), path
            for number, pair in enumerate(zip(then, now, strict=True)):
                _agree(*pair, f"{path}[{number}]", ignoring, tolerance)
    elif isinstance(then, float):
        assert isinstance(now, int | float), path
        assert math.isclose(now, then, rel_tol=tolerance, abs_tol=tolerance), f"{path}: {now!r}, not {then!r}"
    elif isinstance(then, str) and " " in then:
        # Prose may change.
        assert isinstance(now, str), path
    else:
        assert type(now) is type(then), path
        assert now == then, f"{path}: {now!r}, not {then!r}"


@pytest.fixture
def agree() -> Callable[..., None]:
    """Compares JSON: every old key must exist now, numbers and names must be equal, and sentences may differ."""

    def compare(then: Any, now: Any, *, ignoring: tuple[str, ...] = (), tolerance: float = 1e-12) -> None:
        _agree(then, now, "", frozenset(ignoring), tolerance)

    return compare


@pytest.fixture
def calls(kept: Path) -> dict[str, Any]:
    """Commands that read the saved files, by name: their `arguments`, and what they `printed`."""
    return json.loads((kept / "calls.json").read_text())
