"""What the benchmarks share: both sides in one run, interleaved; the sample bars; the machine; the result."""

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
"""Sample bars and stores: on the disk that the tree is on, and out of version control."""

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
    """The claim it decides, in words; empty for a figure that decides nothing."""
    bound: float | None = None
    """The claim's bound on `value`: at least, where higher is better, else at most."""
    spread: tuple[float, float] | None = None
    """The middle half of the rounds."""
    detail: dict[str, float | str] = field(default_factory=dict)

    @property
    def holds(self) -> bool | None:
        """Whether the claim holds; None where there is none."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.better == "higher" else self.value <= self.bound

    def line(self) -> str:
        """The figure for people."""
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
    """Seconds that each side took, round by round: numbers of one round were taken side by side."""

    seconds: dict[str, list[float]]

    def median(self, side: str) -> float:
        """The side's median in seconds."""
        return statistics.median(self.seconds[side])

    def ratios(self, side: str, to: str) -> list[float]:
        """`side` in units of `to`, round by round, so that what disturbs both cancels."""
        return [a / b for a, b in zip(self.seconds[side], self.seconds[to], strict=True)]


def interleaved(
    sides: Mapping[str, Callable[[], object]],
    rounds: int = 11,
    warm_up: int = 2,
    between: Callable[[], object] | None = None,
) -> Rounds:
    """Times all sides once a round, in alternating order, after `warm_up` rounds that do not count.

    What a side returns is dropped after the clock has stopped: giving memory back is not measured. A side that times
    itself returns a `Usage`. `between` runs before each side, unmeasured.
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
    """The middle half."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def ratio(
    rounds: Rounds, side: str, to: str, name: str, better: Literal["lower", "higher"], **claim: object
) -> Figure:
    """How many times `side` takes what `to` takes: the median over the rounds."""
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
    """The median time of a side for each of `count` bars, or calls."""
    scale = {"ns/bar": 1e9, "ms": 1e3}[unit] / count
    values = [s * scale for s in rounds.seconds[side]]
    return Figure(name, statistics.median(values), unit, "lower", spread=quartiles(values), **claim)  # type: ignore[arg-type]


# ---- processes ------------------------------------------------------------------------------------------------------


class Usage(NamedTuple):
    """What a finished process took."""

    seconds: float
    peak_bytes: int


# The kernel counts into a process's peak what its parent held when it was forked, so the parent is a small
# interpreter that imports nothing it does not need.
_LAUNCHER = """
import os, sys, time
null = os.open(os.devnull, os.O_RDWR)
started = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
_, status, usage = os.wait4(pid, 0)
print(time.perf_counter() - started, usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status))
"""


def run_process(*command: object) -> Usage:
    """Runs a command to its end, its standard output thrown away. Raises when it fails."""
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *map(str, command)]
    done = subprocess.run(launcher, capture_output=True, text=True, check=True)
    seconds, peak, code = done.stdout.split()
    if code != "0":
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {code}:\n{done.stderr}")
    return Usage(float(seconds), int(peak))


# ---- what is measured on --------------------------------------------------------------------------------------------


def sample_bars(bars: int = BARS, symbols: int | None = None, suffix: str = ".parquet") -> Path:
    """A file of the sample market, made where it does not exist yet; `run.py` begins with none."""
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
    """Room on the disk that stores are written to."""
    WORK.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(WORK).free


def machine() -> dict[str, object]:
    """What the figures hold for: processor, cores, kernel, versions; and the load when they were taken."""
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
    """The part of the machine that results of different days are compared within, fit for a file name."""
    words = f"{facts['cpu']} {facts['cpu_id']} {facts['cores']} cores {facts['memory_gb']} gb"
    return re.sub(r"[^a-z0-9]+", "-", words.lower().replace("(r)", "").replace("(tm)", "")).strip("-")


# ---- a script's main ------------------------------------------------------------------------------------------------


def main(measure: Callable[[argparse.Namespace], list[Figure]], *, full: str = "") -> None:
    """Runs one benchmark as a script: prints its figures, and writes them where `--json` says.

    `full` is the help of `--full`, for a benchmark that has a longer form. Exit code 1 when a claim does not hold.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--full", action="store_true", help=full or "the same: this one has no longer form")
    options = parser.parse_args()
    figures = measure(options)
    for figure in figures:
        print(figure.line(), flush=True)
    if options.json:
        write(options.json, figures)
    sys.exit(any(figure.holds is False for figure in figures))


def write(path: Path, figures: Sequence[Figure]) -> None:
    """Writes figures with date and machine."""
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "figures": [asdict(figure) | {"holds": figure.holds} for figure in figures],
    }
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
