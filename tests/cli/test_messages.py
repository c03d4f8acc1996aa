"""Messages of the command line: packages that are missing, and options of other commands."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import moola
from moola.cli import app

COMMANDS = {
    "pretrain": ["--feature-dir", "store"],
    "finetune": ["--feature-dir", "store", "--labels", "labels.csv"],
    "predict": ["--run", "run", "--output", "p.parquet", "--feature-dir", "store"],
    "cross-validate": ["--labels", "l.safetensors", "--output", "out"],
    "embed": ["--run", "run", "--output", "e.parquet", "--feature-dir", "store"],
}


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_without_torch_a_command_says_what_to_install(command: str, as_json: bool, tmp_path: Path) -> None:
    """ "No module named 'torch'" reached the user."""
    words = [command, *COMMANDS[command], *(["--json"] if as_json else [])]
    program = f"""
import sys

class Missing:
    def find_spec(name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, Missing)
import moola.cli
from moola.cli.app import run
sys.argv = ["moola", *{words!r}]
run()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    text = json.loads(done.stdout)["message"] if as_json else done.stderr
    assert done.returncode == 1, done.stderr
    assert "torch, which is not installed here: `pip install " in text
    assert "Traceback" not in done.stderr
    assert "No module named" not in done.stderr + done.stdout


def test_every_option_that_a_message_names_exists() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    known = {
        option for command in commands.values() for parameter in command.params for option in parameter.opts
    }
    # Of pip and git, and of every command.
    known |= {"--no-deps", "--porcelain", "--help", "--version"}
    for path in sorted(Path(moola.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for option in re.findall(r"(?<![-\w])--[a-z][a-z-]*[a-z]", node.value):
                    assert option in known, f"{path.name}:{node.lineno} names {option}"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("predict", "leave the column out of --keep (of moola build-features), or pass --sort"),
        ("build-features", "leave the column out of --keep, or pass --sort"),
        (
            "inspect",
            "leave the column out of --keep (of moola build-features), or pass --sort (of moola build-features)",
        ),
    ],
)
def test_an_option_of_another_command_is_named_with_it(command: str, says: str) -> None:
    placed = get_command(app)._placed([command, "x"], "leave the column out of --keep, or pass --sort")  # type: ignore[attr-defined]
    assert placed == says
