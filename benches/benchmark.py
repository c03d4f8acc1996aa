"""Code that all benchmarks share: interleaved timing of both sides, sample bars, facts of the machine, results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
WORK = ROOT / "target" / "bench"
"""The directory of sample bars and stores: on the same disk as the source tree, and not under version control."""

BARS = 1_818_450
"""Five years of one-minute bars."""

MOOLA = Path(sys.executable).with_name("moola")
"""The command line of this environment."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number."""

    name: str
    value: float
    unit: Literal["x", "ns/bar", "ms", "s", "MB", "MB/s", "1"]
    better: Literal["lower", "higher"]
    claim: str = ""
    """The claim that this figure decides, in words. Empty if it decides none."""
    bound: float | None = None
    """The claim's bound on `value`: a minimum if higher is better, otherwise a maximum."""
    spread: tuple[float, float] | None = None
    """The quartiles over the rounds: the range of the middle half."""
    detail: dict[str, float | str] = field(default_factory=dict)

    @property
    def holds(self) -> bool | None:
        """Whether the claim holds. None if there is no claim."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.better == "higher" else self.value <= self.bound

    def line(self) -> str:
        """The figure as a line of text."""
        spread = f"  ({show(self.spread[0])} to {show(self.spread[1])})" if self.spread else ""
        verdict = ""
        if self.bound is not None:
            sign = "≥" if self.better == "higher" else "≤"
            verdict = f"  {sign} {show(self.bound)}: {'holds' if self.holds else 'DOES NOT HOLD'}"
        return f"{self.name:<58} {show(self.value):>8} {self.unit:<6}{spread}{verdict}"


def show(x: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


# ---- timing ---------------------------------------------------------------------------------------------------------


class Rounds(NamedTuple):
    """The seconds that each side took in each round. All sides of one round were timed right after each other."""

    seconds: dict[str, list[float]]

    def median(self, side: str) -> float:
        """The side's median in seconds."""
        return statistics.median(self.seconds[side])

    def ratios(self, side: str, to: str) -> list[float]:
        """`side` in units of `to` for each round, so that a disturbance of both cancels out."""
        return [a / b for a, b in zip(self.seconds[side], self.seconds[to], strict=True)]


def interleaved(
    sides: Mapping[str, Callable[[], object]],
    rounds: int = 11,
    warm_up: int = 2,
    between: Callable[[], object] | None = None,
) -> Rounds:
    """Times all sides once per round, in alternating order, after `warm_up` rounds that do not count.

    The result of a side is dropped after the clock has stopped, so freeing its memory is not measured. A side that
    times itself returns a `Usage`. `between` runs before each side and is not measured.
    """
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(-warm_up, rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for side in order:
            if between is not None:
                between()
            started = time.perf_counter()
            returned = sides[side]()
            took = returned.seconds if isinstance(returned, Usage) else time.perf_counter() - started
            del returned
            if number >= 0:
                seconds[side].append(took)
    return Rounds(seconds)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper quartile."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def ratio(
    rounds: Rounds, side: str, to: str, name: str, better: Literal["lower", "higher"], **claim: object
) -> Figure:
    """The time of `side` in units of the time of `to`: the median over the rounds."""
    values = rounds.ratios(side, to)
    detail = {f"{s} s": round(rounds.median(s), 6) for s in (side, to)}
    return Figure(
        name, statistics.median(values), "x", better, spread=quartiles(values), detail=detail, **claim
    )  # type: ignore[arg-type]


def each(
    rounds: Rounds,
    side: str,
    name: str,
    count: int,
    unit: Literal["ns/bar", "ms"] = "ns/bar",
    **claim: object,
) -> Figure:
    """The median time of a side, divided by `count` bars or calls."""
    scale = {"ns/bar": 1e9, "ms": 1e3}[unit] / count
    values = [s * scale for s in rounds.seconds[side]]
    return Figure(name, statistics.median(values), unit, "lower", spread=quartiles(values), **claim)  # type: ignore[arg-type]


# ---- processes ------------------------------------------------------------------------------------------------------


class Usage(NamedTuple):
    """The time and peak memory of a finished process."""

    seconds: float
    peak_bytes: int


# The kernel includes the memory of the parent at the fork in a process's peak. So the parent is a small
# interpreter with as few imports as possible.
_LAUNCHER = """
import os, sys, time
null = os.open(os.devnull, os.O_RDWR)
started = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
_, status, usage = os.wait4(pid, 0)
print(time.perf_counter() - started, usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status))
"""


def run_process(*command: object) -> Usage:
    """Runs a command to its end and discards its standard output.

    Raises `RuntimeError` if it fails."""
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *map(str, command)]
    done = subprocess.run(launcher, capture_output=True, text=True, check=True)
    seconds, peak, code = done.stdout.split()
    if code != "0":
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {code}:\n{done.stderr}")
    return Usage(float(seconds), int(peak))


# ---- data and machine -----------------------------------------------------------------------------------------------


def sample_bars(bars: int = BARS, symbols: int | None = None, suffix: str = ".parquet") -> Path:
    """A file of the sample market. It is made if it does not exist; `run.py` starts without any."""
    path = WORK / f"bars-{bars}{f'x{symbols}' if symbols else ''}{suffix}"
    if not path.exists():
        import moola

        WORK.mkdir(parents=True, exist_ok=True)
        unfinished = WORK / f"unfinished{suffix}"
        unfinished.unlink(missing_ok=True)
        moola.make_bars(unfinished, bars, seed=17, symbols=symbols)
        unfinished.rename(path)
    return path


def sample_columns(bars: int = BARS):  # type: ignore[no-untyped-def]
    """Open, high, low and close of one sample series, contiguous float64."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(sample_bars(bars), columns=["open", "high", "low", "close"])
    return [np.ascontiguousarray(table[name].to_numpy()) for name in ("open", "high", "low", "close")]


def free_bytes() -> int:
    """Free bytes on the disk that stores are written to."""
    WORK.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(WORK).free


def machine() -> dict[str, object]:
    """The machine of the figures: processor, cores, kernel and versions; and its load at this moment."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    facts = dict(re.findall(r"^([^\t:]+?)\s*:\s*(.*)$", info.split("\n\n")[0], re.MULTILINE))
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cpu": facts.get("model name", platform.processor() or platform.machine()),
        "cpu_id": "-".join(facts[k] for k in ("cpu family", "model", "stepping") if k in facts),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rustc": rustc,
        "load_average": round(os.getloadavg()[0], 2),
    }


def machine_key(facts: Mapping[str, object]) -> str:
    """A name of the machine for file names. Results are compared only if this name is the same."""
    words = f"{facts['cpu']} {facts['cpu_id']} {facts['cores']} cores {facts['memory_gb']} gb"
    return re.sub(r"[^a-z0-9]+", "-", words.lower().replace("(r)", "").replace("(tm)", "")).strip("-")


# ---- the main function ----------------------------------------------------------------------------------------------


def main(measure: Callable[[argparse.Namespace], list[Figure]], *, full: str = "") -> None:
    """Runs one benchmark as a script: prints its figures, and writes them to the file of `--json`.

    `full` is the help text of `--full`, for a benchmark that has a longer form. The exit code is 1 if a claim does not
    hold.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument(
        "--full", action="store_true", help=full or "has no effect: this benchmark has no longer form"
    )
    options = parser.parse_args()
    figures = measure(options)
    for figure in figures:
        print(figure.line(), flush=True)
    if options.json:
        write(options.json, figures)
    sys.exit(any(figure.holds is False for figure in figures))


def write(path: Path, figures: Sequence[Figure]) -> None:
    """Writes the figures with date and machine."""
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "figures": [asdict(figure) | {"holds": figure.holds} for figure in figures],
    }
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
