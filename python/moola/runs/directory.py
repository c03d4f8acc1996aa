"""Run directories: settings, environment, log, seen bars and results of a training."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch

from moola._core import __version__
from moola.devices.placement import Placement
from moola.errors import RunError
from moola.files.json import as_json, json_line, parse_json, replace_json
from moola.files.publishing import UNFINISHED, write_file
from moola.runs.seen_bars import SeenBars

__all__ = ["Run", "environment", "new_directory", "read_record", "write_record"]

CONFIG, ENVIRONMENT, METRICS, SEEN_BARS, RESULT = (
    "config.json",
    "environment.json",
    "metrics.jsonl",
    "learned.json",
    "result.json",
)

# Settings that may differ when a run is resumed. Bars are identified by their fingerprint, not by how they were read.
_MAY_DIFFER = ("stores", "moola_version", "features.bars.")


class Run:
    """A run directory, locked for training: one process writes in it at a time."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._metrics = open(path / METRICS, "ab")  # noqa: SIM115

    @classmethod
    def begin(
        cls,
        path: str | os.PathLike[str],
        config: Mapping[str, Any],
        *,
        resume: bool,
        may_differ: tuple[str, ...] = (),
    ) -> Self:
        """Makes the directory, or with `resume` continues in an existing one.

        `may_differ` names settings, or prefixes of their names, that another version may have recorded differently.

        Raises `RunError` for a run that exists (without `resume`), for one begun with other settings, which the error
        names, for a directory that holds anything else, and if another process trains there.
        """
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise RunError(path, "is not a directory", "Choose another --output") from None
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                problem = "another process is training there"
                raise RunError(path, problem, "Wait for it, or choose another --output") from None
            begun = [name for name in os.listdir(path) if not name.endswith(UNFINISHED)]
            if CONFIG in begun:
                if not resume:
                    advice = "Continue it with --resume, or choose another --output"
                    raise RunError(path, "there is a run there already", advice)
                _require_same(path, read_record(path / CONFIG), config, may_differ)
            elif begun:
                problem = f"is not a run: it holds {begun[0]} and no {CONFIG}"
                raise RunError(path, problem, "Choose another --output")
            else:
                write_record(path / CONFIG, config)
            return cls(path, lock)
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Releases the directory for other trainings."""
        self._metrics.close()
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def log(self, record: Mapping[str, Any]) -> None:
        """Adds a line to `metrics.jsonl`."""
        self._metrics.write(json_line(dict(record)).encode() + b"\n")
        self._metrics.flush()

    @property
    def logged(self) -> int:
        """The size of `metrics.jsonl`, which checkpoints record."""
        return self._metrics.tell()

    def go_back_to(self, logged: int) -> None:
        """Discards what was logged after a checkpoint; `logged` is the size of the log that it records.

        Raises `RunError` if the log is shorter than the checkpoint records.
        """
        if self._metrics.seek(0, os.SEEK_END) < logged:
            advice = "Restore it from a copy, or start again in another directory"
            raise RunError(self.path, f"{METRICS} is shorter than its checkpoint records", advice)
        self._metrics.truncate(logged)
        self._metrics.seek(logged)

    def write(self, name: str, record: Mapping[str, Any]) -> None:
        """Writes a JSON file of the run."""
        write_record(self.path / name, record)


def new_directory(path: str | os.PathLike[str]) -> Path:
    """Makes a directory for results. Raises `RunError` for a file, and for a directory that is not empty."""
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        taken = next(directory.iterdir(), None) is not None
    except (FileExistsError, NotADirectoryError):
        raise RunError(directory, "is not a directory", "Choose another --output") from None
    if taken:
        raise RunError(directory, "exists and is not empty", "Choose another --output")
    return directory


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a readable JSON file atomically."""
    replace_json(path, record)


def read_record(path: Path) -> dict[str, Any]:
    """A JSON file of a run. Raises `RunError`, which names the file, if it is missing or damaged."""
    try:
        content = parse_json(path.read_bytes())
    except FileNotFoundError:
        problem = f"is not a run: there is no {path.name}"
        raise RunError(path.parent, problem, "Give the directory that moola trained in") from None
    except (OSError, ValueError) as error:
        raise RunError(path, f"cannot be read: {error}", "Restore it from a copy, or train again") from None
    if not isinstance(content, dict):
        raise RunError(path, "is not what moola wrote", "Restore it from a copy, or train again")
    return content


def write_metrics(directory: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Writes a whole `metrics.jsonl`."""
    text = "".join(f"{json_line(dict(line))}\n" for line in lines)
    write_file(directory / METRICS, text.encode())


def read_metrics(path: str | os.PathLike[str], kind: str) -> list[dict[str, Any]]:
    """The lines of one kind in a run's `metrics.jsonl`, such as `step`, `epoch` or `fold`. Raises `RunError`."""
    try:
        lines = (Path(path) / METRICS).read_bytes().splitlines()
        records = [parse_json(line) for line in lines]
    except FileNotFoundError:
        raise RunError(
            Path(path), f"there is no {METRICS}", "Give the directory that moola trained in"
        ) from None
    except ValueError as error:
        raise RunError(
            Path(path), f"{METRICS} is damaged: {error}", "Restore it from a copy, or train again"
        ) from None
    return [record for record in records if record.get("kind") == kind]


def read_seen_bars(path: str | os.PathLike[str]) -> SeenBars:
    """The bars that a run saw in training. Raises `RunError`."""
    file = Path(path) / SEEN_BARS
    try:
        return SeenBars.of_record(read_record(file))
    except (TypeError, ValueError):
        raise RunError(file, "is not what moola wrote", "Restore it from a copy, or train again") from None


def environment(placement: Placement) -> dict[str, Any]:
    """Versions, machine and git revision, recorded so that the run can be repeated."""
    names = ("numpy", "safetensors", "pyarrow")
    record: dict[str, Any] = {
        "moola": __version__,
        "python": platform.python_version(),
        "versions": {"torch": torch.__version__}
        | {name: version(name) for name in names if importlib.util.find_spec(name)},
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": str(placement.device),
        "precision": placement.precision,
        "ranks": placement.world_size,
        "git": _git(),
    }
    if placement.device.type == "cuda":
        record["gpu"] = torch.cuda.get_device_name(placement.device)
        record["cuda"] = torch.version.cuda
        record["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return record


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested sections, by dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _require_same(
    path: Path, begun: Mapping[str, Any], given: Mapping[str, Any], may_differ: tuple[str, ...]
) -> None:
    # As JSON, because the recorded settings have lists for tuples.
    old, new = dict(flat(begun)), dict(flat(as_json(given)))
    differ = [
        f"{name} {old.get(name)!r}, not {new.get(name)!r}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name) and not name.startswith((*_MAY_DIFFER, *may_differ))
    ]
    if differ:
        advice = "Resume with the settings it was begun with, or choose another --output"
        raise RunError(path, f"the run was begun with {'; '.join(differ)}", advice)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _git() -> dict[str, Any] | None:
    """The revision of the working directory, which is the user's project."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return {"revision": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
