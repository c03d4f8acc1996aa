"""The rooms of the package: its top level, and the import contract."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "moola"


def test_the_top_level_has_rooms_and_at_most_five_modules() -> None:
    modules = {path.name for path in PACKAGE.glob("*.py")}
    assert modules == {"__init__.py", "__main__.py", "gates.py", "moved.py", "splits.py"}


def test_rooms_take_nothing_but_the_engine_from_the_package_itself() -> None:
    """The contract excludes the lazy names of `moola`, so that no room can reach another through them."""
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


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Checks the contracts in `pyproject.toml` against the package in this folder. Nothing is imported."""
    check = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", check, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": "."})


def test_an_import_of_a_higher_layer_breaks_the_contract(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "moola", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    whole = lint(tmp_path)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    for room, line in (
        # Imports of a higher floor, at the top of a module and inside a function, and a cycle between files.
        ("bars/roles.py", "def late() -> None:\n    from moola.store.reader import FeatureStore"),
        ("store/segments.py", "from moola.store.reader import FeatureStore"),
    ):
        file = tmp_path / "moola" / room
        before = file.read_text()
        file.write_text(f"{before}\n\n{line}\n")
        broken = lint(tmp_path)
        assert broken.returncode == 1, broken.stdout + broken.stderr
        assert "BROKEN" in broken.stdout
        file.write_text(before)
