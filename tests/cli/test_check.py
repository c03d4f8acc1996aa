"""`build-features --check`: reads and reports, and leaves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_a_check_reports_what_a_build_would(
    run: Any, bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = sorted(bars.parent.rglob("*"))
    checked = run("build-features", "--check", bars)
    assert checked.code == 0, checked.err
    built = run("build-features", bars, "--output", tmp_path / "store")

    def facts(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith(("took", "store"))]

    assert facts(checked.out) == facts(built.out)
    assert "none was made" in checked.out
    assert sorted(bars.parent.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_check_in_json_has_no_path(run: Any, bars: Path) -> None:
    record = run("build-features", "--check", "--data", bars, "--json").json
    assert record["checked"] is True
    assert record["path"] is None
    assert record["bars"] == 20_000


def test_a_check_refuses_what_a_build_refuses(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,o,h,l,c\n2024-01-01T00:00Z,1,1,2,1\n")
    done = run("build-features", "--check", path)
    assert done.code == 1
    assert "high below low" in done.err


def test_a_check_and_an_output_exclude_each_other(run: Any, bars: Path, tmp_path: Path) -> None:
    neither = run("build-features", bars)
    assert neither.code == 2
    assert neither.err.startswith("error: --output: names no directory")
    both = run("build-features", bars, "--check", "--output", tmp_path / "x")
    assert both.code == 2
    assert both.err.startswith("error: --check: makes no store")
