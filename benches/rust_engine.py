"""The engine without Python: runs `rust/moola-core/benches/features.rs` with criterion, and reads criterion's results.

It measures one bar at a time through `Stream::push`, and whole columns for every vector width of this processor.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess

from benchmark import ROOT, Figure, main

RESULTS = ROOT / "target" / "criterion"


def measure(_: argparse.Namespace) -> list[Figure]:
    """The claim, and a figure for each benchmark that criterion ran."""
    shutil.rmtree(RESULTS, ignore_errors=True)
    short = ["--warm-up-time", "0.5", "--measurement-time", "1.5", "--noplot"]
    command = [
        "cargo",
        "bench",
        "--locked",
        "--quiet",
        "-p",
        "moola-core",
        "--bench",
        "features",
        "--",
        *short,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    figures = []
    for path in sorted(RESULTS.glob("*/**/new/benchmark.json")):
        about = json.loads(path.read_text())
        estimates = json.loads(path.with_name("estimates.json").read_text())["median"]
        bars = about["throughput"]["Elements"]
        interval = estimates["confidence_interval"]
        claim = about["full_id"] == "push/relativity10"
        figures.append(
            Figure(
                f"{'' if claim else '  '}Rust: {about['full_id']}",
                estimates["point_estimate"] / bars,
                "ns/bar",
                "lower",
                spread=(interval["lower_bound"] / bars, interval["upper_bound"] / bars),
                claim="`FeatureStream.push` in Rust" if claim else "",
                bound=100.0 if claim else None,
            )
        )
    return sorted(figures, key=lambda figure: not figure.claim)


if __name__ == "__main__":
    main(measure)
