"""Executable documentation: examples in README and docstrings run, and the names they use exist."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer

import moola
from moola import _core
from moola.cli import app
from moola.settings.features import FeatureConfig

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    README,
    *(ROOT / name for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/log.md")),
]

# What sets moola up. These are not run here, where moola stands already: `make test` runs this very test, and
# test_package.py builds and installs the wheel.
SET_UP = ("make ", "pip install .")


class Block(NamedTuple):
    """A fenced example."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def examples(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: found.start(2)].count("\n") + 1, found[1], found[2])
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def commands(block: Block) -> list[str]:
    return block.text.replace("\\\n", " ").splitlines()


def run_python(block: Block, namespace: dict[str, Any]) -> None:
    """Runs an example; `expression # → value` also gives the expected result."""
    lines = block.text.splitlines()
    for statement in ast.parse(block.text).body:
        _, arrow, shown = lines[statement.end_lineno - 1].partition("# → ")
        ast.increment_lineno(statement, block.line - 1)
        if arrow:
            assert isinstance(statement, ast.Expr), f"{block.place}: only an expression has a value: {lines}"
            value = eval(compile(ast.Expression(statement.value), block.page.name, "eval"), namespace)
            assert repr(value) == shown, f"{block.page.name}:{statement.lineno}"
        else:
            exec(compile(ast.Module([statement], []), block.page.name, "exec"), namespace)


def run_shell(block: Block) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, f"{block.place}\n{result.stdout}\n{result.stderr}"


def test_readme_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "readme"}
    ran = []
    for block in examples(README):
        match block.language:
            case "python":
                run_python(block, namespace)
            case "sh" if not all(command.startswith(SET_UP) for command in commands(block)):
                run_shell(block)
            case "sh":
                continue
            case language:
                pytest.fail(f"{block.place}: nothing here can run {language!r}")
        ran.append(block.language)
    assert ran.count("python") >= 3
    assert ran.count("sh") >= 2


def test_setup_examples_name_existing_functions() -> None:
    """Those are not executed, so at least the names they call must exist."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    seen = []
    for block in [*examples(README), *examples(ROOT / "CONTRIBUTING.md")]:
        if block.language != "sh":
            continue
        for command in commands(block):
            words = shlex.split(command)
            seen.append(words[0])
            if words[0] == "make":
                assert set(words[1:]) <= targets, f"{block.place}: {command}"
            for word in words:
                if word.endswith((".py", ".rs")):
                    assert (ROOT / word).exists(), f"{block.place}: {command}"
    assert "make" in seen


def documented() -> Iterator[tuple[str, str, str, int]]:
    """Every docstring with an example: its module, its name, its text, its line."""
    sources = ROOT / "python"
    for path in sorted(sources.rglob("*.py")):
        module = ".".join(path.relative_to(sources).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if ">>>" in text:
                    yield module, f"{module}.{getattr(node, 'name', '')}", text, getattr(node, "lineno", 1)
    for name, thing in vars(_core).items():
        for member, value in [("", thing), *(vars(thing).items() if inspect.isclass(thing) else [])]:
            text = inspect.cleandoc(getattr(value, "__doc__", None) or "")
            if ">>>" in text:
                yield "moola._core", f"moola._core.{name}.{member}", text, 0


DOCUMENTED = list(documented())


@pytest.mark.parametrize(
    ("module", "name", "text", "line"), [pytest.param(*found, id=found[1].strip(".")) for found in DOCUMENTED]
)
def test_docstring_examples_run(
    module: str, name: str, text: str, line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = dict(vars(importlib.import_module(module)))
    test = doctest.DocTestParser().get_doctest(text, names, name, module, line)
    output: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=output.append)
    assert result.attempted > 0
    assert result.failed == 0, "".join(output)


def test_docstring_examples_are_found() -> None:
    names = [name for _, name, _, _ in DOCUMENTED]
    assert "moola.features.compute.compute_features" in names
    assert "moola.features.stream.FeatureStream" in names


@pytest.mark.parametrize("name", [name for name in moola.__all__ if not name.startswith("__")])
def test_public_names_are_documented(name: str) -> None:
    thing = getattr(moola, name)
    assert inspect.getdoc(thing), name
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                assert inspect.getdoc(getattr(thing, member)), f"{name}.{member}"


# ---- tables ------------------------------------------------------------------------------------------------


def table(heading: str, header: str) -> list[list[str]]:
    """The cells of the table with this header under this heading of the README."""
    text = README.read_text(encoding="utf-8")
    section = re.split(r"^#+ ", text.split(f"\n{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    assert header in section, f"no table '{header}' under {heading}"
    rows = section.split(header, 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def bounds(text: str) -> tuple[float | None, float | None]:
    """The range given in a cell of the README."""
    text = text.removesuffix(", clipped").replace("−", "-")
    if text == "any":
        return None, None
    if text == "±√(`zscore_period` - 1)":
        limit = math.sqrt(FeatureConfig().zscore_period - 1)
        return -limit, limit
    low, high = text.split("…")
    return float(low), float(high)


@pytest.mark.parametrize("feature_set", _core.feature_sets())
def test_readme_lists_all_features(feature_set: str) -> None:
    rows = table(f"### `{feature_set}`", "| # | name | value | range |")
    if feature_set == "relativity12":
        rows = table("### `relativity10`", "| # | name | value | range |") + rows
    assert [int(row[0]) for row in rows] == list(range(len(rows)))
    written = [(row[1].strip("`"), *bounds(row[3])) for row in rows]
    real = _core.describe_features(feature_set, None)
    assert [name for name, *_ in written] == [name for name, *_ in real]
    for (name, *shown), (_, *meant) in zip(written, real, strict=True):
        if meant[0] is None:
            assert shown == meant, name
        else:
            np.testing.assert_allclose(shown, meant, rtol=1e-6, err_msg=name)


def test_readme_lists_all_parameters() -> None:
    rows = table("### Parameters", "| parameter | default | what |")
    written = {row[0].strip("`"): float(row[1]) for row in rows}
    assert written == {name: float(value) for name, value in FeatureConfig().model_dump().items()}


def test_pages_name_options_that_exist() -> None:
    group = typer.main.get_command(app)
    commands = [group, *group.commands.values()]
    offered = {
        option
        for command in commands
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    # The loaders have their own command.
    loader = [sys.executable, "-m", "moola.data.fast_windowed_loader", "--help"]
    shown = subprocess.run(loader, capture_output=True, text=True, check=True).stdout
    offered |= set(re.findall(r"--[a-z][a-z-]+", shown))
    # `--help` is everybody's; the others are those of `b3sum`, pip, torchrun and the scripts in benches/.
    offered |= {"--help", "--check", "--no-deps", "--nproc-per-node", "--full"}
    for page in (README, ROOT / "CHANGELOG.md"):
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
        assert named <= offered, page.name


# ---- what pages point at -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_pages_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for path in re.findall(r"`((?:rust|python|tests|benches|docs)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), f"{page.name} speaks of {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_existing_parts_of_moola(page: Path) -> None:
    for path in re.findall(r"\bmoola\.([A-Za-z_]+(?:\.[A-Za-z_]+)*)", page.read_text(encoding="utf-8")):
        thing: Any = moola
        for part in path.split("."):
            if not hasattr(thing, part):
                importlib.import_module(f"{thing.__name__}.{part}")
            thing = getattr(thing, part)
