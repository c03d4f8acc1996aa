"""Runs every benchmark, compares the results with the last ones of this machine, and keeps them.

    python benches/run.py [--full] [--strict] [--only NAME …] [--discard]

Each script runs in its own process. Slowdowns of more than 15 % are listed. They mean little on a busy machine, so the
load is recorded with the figures. With `--strict` the exit code is 1 if there is a slowdown or a claim does not hold.
With `--full` scripts that have a longer form run it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmark import RESULTS, WORK, machine, machine_key, show

SCRIPTS = [
    "compute_features",
    "many_series",
    "stream_push",
    "rust_engine",
    "atr_talib",
    "start_up",
    "build_process",
    "windows_layout",
    "other_sources",
    "serve_windows",
    "serve_memory",
    "serve_gpu",
    "augment",
    "labels",
    "pretrain",
    "pretrain_gpu",
]
SLOWER = 1.15


def run() -> int:
    """Runs the benchmarks and returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="run the longer form of scripts that have one")
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 on a slowdown, or if a claim does not hold"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SCRIPTS,
        default=SCRIPTS,
        metavar="NAME",
        help="run only these, and keep no result",
    )
    parser.add_argument("--discard", action="store_true", help="keep no result")
    options = parser.parse_args()

    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    # Let the kernel finish removing old files before anything is timed.
    os.sync()
    facts, started = machine(), time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load_average']}")
    if float(str(facts["load_average"])) > 0.5:
        print("This machine is busy. Measure again when it is quiet before you keep figures.")
    figures, failed = _measure(options.only, options.full)
    shutil.rmtree(WORK, ignore_errors=True)

    previous = last_result(machine_key(facts))
    slower = compare(figures, previous) if previous else []
    for line in slower:
        print(line)
    missed = [figure["name"].strip() for figure in figures if figure["holds"] is False]
    claims = sum(figure["holds"] is not None for figure in figures)
    print(f"\n{claims - len(missed)} of {claims} claims hold{'. Not: ' if missed else ''}{'; '.join(missed)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    if not options.discard and options.only == SCRIPTS:
        RESULTS.mkdir(exist_ok=True)
        kept = RESULTS / f"{machine_key(facts)}.{started}.json"
        record = {"date": started, "machine": facts, "figures": figures}
        kept.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        print(f"kept in {kept}")
    return int(options.strict and bool(slower or missed))


def _measure(scripts: list[str], full: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """The figures of all scripts, and the names of those that failed."""
    figures, failed = [], []
    for script in scripts:
        print(f"\n{script}", flush=True)
        result = WORK / f"{script}.json"
        command = [
            sys.executable,
            Path(__file__).with_name(f"{script}.py"),
            "--json",
            result,
            *(["--full"] if full else []),
        ]
        began = time.perf_counter()
        subprocess.run(command, check=False)
        if not result.exists():
            failed.append(script)
            continue
        figures += [{"script": script} | figure for figure in json.loads(result.read_text())["figures"]]
        print(f"{'':<58} in {time.perf_counter() - began:.0f} s")
    return figures, failed


def last_result(key: str) -> dict[str, Any] | None:
    """The latest kept result of a machine. None if there is none."""
    kept = sorted(RESULTS.glob(f"{key}.*.json"))
    return {"file": kept[-1].name} | json.loads(kept[-1].read_text()) if kept else None


def compare(figures: list[dict[str, Any]], previous: dict[str, Any]) -> list[str]:
    """A line for each figure that is more than 15 % worse than in an earlier result."""
    before = {(figure["script"], figure["name"]): figure for figure in previous["figures"]}
    lines = []
    for figure in figures:
        old = before.get((figure["script"], figure["name"]))
        if old is None or not old["value"] or not figure["value"] or figure["unit"] == "1":
            continue
        worse = figure["value"] / old["value"]
        worse = 1 / worse if figure["better"] == "higher" else worse
        if worse > SLOWER:
            name, unit = figure["name"].strip(), figure["unit"]
            lines.append(f"  {worse - 1:4.0%}  {name}: {show(old['value'])} → {show(figure['value'])} {unit}")
    return [f"\nworse than in {previous['file']} by more than {SLOWER - 1:.0%}:", *lines] if lines else []


if __name__ == "__main__":
    sys.exit(run())
