"""Files of earlier versions exist, and include every kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

KEPT = Path(__file__).parents[1] / "data" / "compat"

# Otherwise a missing or empty directory would leave nothing to test, and every test would pass.
KINDS = {
    "bars": 6,
    "configs": 10,
    "labels": 14,
    "loaders": 1,
    "predictions": 10,
    "runs": 50,
    "stores": 40,
    "streams": 17,
    "sweeps": 10,
    "validation": 30,
}


def test_files_of_earlier_versions_exist() -> None:
    assert (KEPT / "0.1.0").is_dir()


def test_every_kind_of_file_is_there(version: str) -> None:
    for kind, least in KINDS.items():
        files = [path for path in (KEPT / version / kind).rglob("*") if path.is_file()]
        assert len(files) >= least, f"tests/data/compat/{version}/{kind} holds {len(files)} files"


def test_every_store_run_and_label_file_is_listed(version: str) -> None:
    """Every file is in the lists that the tests use."""
    folder = KEPT / version
    for kind, listed in (
        ("stores", "builds.json"),
        ("runs", "made.json"),
        ("validation", "made.json"),
        ("sweeps", "made.json"),
    ):
        there = {path.name for path in (folder / kind).iterdir() if path.is_dir()}
        assert there == set(json.loads((folder / kind / listed).read_text())), kind
    labels = json.loads((folder / "labels" / "imports.json").read_text())
    assert {path.stem for path in (folder / "labels").glob("*.safetensors")} == set(labels["windows"])
    assert set(labels["imports"]) < set(labels["windows"])


def test_files_do_not_identify_the_machine_that_made_them(version: str) -> None:
    """The files were made in a directory that exists on any machine."""
    home = str(Path.home()).encode()
    for path in (KEPT / version).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"/work/" not in content, path
            assert home == b"/" or home + b"/" not in content, path


def test_tests_leave_the_files_alone(version: str, kept: Path) -> None:
    assert kept != KEPT / version
    assert KEPT not in kept.parents


@pytest.mark.parametrize("suffix", [".safetensors", ".parquet", ".npy", ".npz", ".state", ".arrow", ".gz"])
def test_git_keeps_binary_files_as_they_are(suffix: str, version: str) -> None:
    assert any((KEPT / version).rglob(f"*{suffix}"))
    attributes = (KEPT / ".gitattributes").read_text()
    assert f"*{suffix} binary" in attributes
