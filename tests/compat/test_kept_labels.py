"""Label files of earlier versions are read, and tables of labels are imported as before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moola.labels import LabelledWindows, together

IMPORTED = ("by_time", "by_row", "by_bar", "panel", "raw", "untimed")


def imports(kept: Path) -> dict[str, Any]:
    return json.loads((kept / "labels" / "imports.json").read_text())


def digest(array: Any) -> str:
    """SHA-256 of an array's type, shape and bytes, as in `make.py`."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def check(windows: LabelledWindows, then: dict[str, Any], *, ignoring: tuple[str, ...] = ()) -> None:
    for name, expected in then["arrays"].items():
        array = getattr(windows, name)
        if name not in ignoring:
            assert (None if array is None else digest(array)) == expected, name
    for name, fact in then["facts"].items():
        if name not in ignoring:
            assert json.loads(json.dumps(getattr(windows, name))) == fact, name


@pytest.mark.parametrize("name", [*IMPORTED, "together"])
def test_a_label_file_is_read(name: str, kept: Path) -> None:
    then = imports(kept)["windows"][name]
    windows = LabelledWindows.load(f"labels/{name}.safetensors")
    check(windows, then)
    assert len(windows.notices) == then["notices"]
    assert len(windows) > 10


@pytest.mark.parametrize("name", [*IMPORTED, "together"])
def test_a_label_file_is_saved_again(name: str, kept: Path, tmp_path: Path) -> None:
    """This version saves it, in its current form."""
    LabelledWindows.load(f"labels/{name}.safetensors").save(tmp_path / "again.safetensors")
    check(LabelledWindows.load(tmp_path / "again.safetensors"), imports(kept)["windows"][name])


@pytest.mark.parametrize("name", IMPORTED)
def test_a_label_table_is_imported_as_before(
    name: str, kept: Path, tmp_path: Path, moola_json: Callable[..., Any], agree: Callable[..., None]
) -> None:
    found = imports(kept)
    output = tmp_path / "windows.safetensors"
    printed = moola_json(*found["imports"][name]["arguments"], str(output))
    agree(found["imports"][name]["printed"], printed, ignoring=("output", "bytes"))
    check(LabelledWindows.load(output), found["windows"][name])


def test_windows_of_two_lengths_are_joined_as_before(kept: Path) -> None:
    windows = LabelledWindows.load("labels/by_time.safetensors")
    assert together(windows, {}).groups.tolist() == windows.groups.tolist()
    kept_together = LabelledWindows.load("labels/together.safetensors")
    assert kept_together.reach is not None
    assert (kept_together.label_starts < kept_together.starts).all()


def test_all_imports_are_tested(kept: Path) -> None:
    assert set(imports(kept)["imports"]) == set(IMPORTED)
