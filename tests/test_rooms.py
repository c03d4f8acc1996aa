"""The rooms of the package: what stands at its top, and that no import goes round the floors' contract."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "moola"


def test_at_the_top_stand_rooms_and_at_most_five_modules() -> None:
    modules = {path.name for path in PACKAGE.glob("*.py")}
    assert modules == {"__init__.py", "__main__.py", "gates.py", "moved.py", "splits.py"}


def test_rooms_take_nothing_but_the_engine_from_the_package_itself() -> None:
    """The contract leaves out what `moola` offers lazily, so that no room may reach another through it."""
    for path in PACKAGE.rglob("*.py"):
        if path.parent == PACKAGE:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "moola":
                assert {alias.name for alias in node.names} <= {"_core", "__version__"}, path
            if isinstance(node, ast.Import):
                assert "moola" not in {alias.name for alias in node.names}, path


def test_at_most_three_files_exceed_500_lines() -> None:
    long = [path for path in PACKAGE.rglob("*.py") if path.read_text().count("\n") > 500]
    assert len(long) <= 3, long


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("errors/base.py", "from moola.cli import app"),
        ("bars/roles.py", "def late() -> None:\n    from moola.store.reader import FeatureStore"),
        ("store/segments.py", "from moola.store.reader import FeatureStore"),
    ],
)
def test_an_arrow_that_points_up_breaks_the_contract(tmp_path: Path, room: str, line: str) -> None:
    package = tmp_path / "moola"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    # The engine is not there, and is not needed: nothing is imported.
    check = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
    ]
    whole = subprocess.run(
        [*check, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": "."}
    )
    assert whole.returncode == 0, whole.stdout + whole.stderr
    with open(package / room, "a") as file:
        file.write(f"\n\n{line}\n")
    broken = subprocess.run(
        [*check, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": "."}
    )
    assert broken.returncode == 1, broken.stdout + broken.stderr
    assert "BROKEN" in broken.stdout
