"""The hand-written stub matches the compiled module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_stub_agrees_with_the_module() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "moola._core", "--mypy-config-file", "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
