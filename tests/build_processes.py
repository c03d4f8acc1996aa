"""Builds in separate processes, which may be killed and interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BUILD: dict[str, Any] = {"keep": ["volume"], "stamp": "close", "overwrite": True}

SERVER = """
import json, os, resource, signal, sys, threading, time
import numpy as np
import moola, moola.bars.source, moola.store.build, moola.settings.features, moola.bars.formats.opening
import moola.files.publishing, moola.store.reader, moola.store.verify.report
import pyarrow, pyarrow.csv, pyarrow.parquet

def progress(die_at, stages):
    def report(stage, done, total):
        if not stages or stages[-1][0] != stage:
            stages.append((stage, time.monotonic()))
        if die_at == [stage, done] or die_at == [stage, None]:
            os.kill(os.getpid(), signal.SIGKILL)
    return report

def work(job, report, result):
    if job["what"] == "compute":
        columns = [np.tile(c, job["times"]) for c in moola._core.SampleBars(1).take(100_000)[1:5]]
        out = np.zeros((len(columns[0]), 10), np.float32)
        report("features", None, None)
        if "interrupt_after" in job:
            def interrupt():
                result["sent"] = time.monotonic()
                os.kill(os.getpid(), signal.SIGINT)
            threading.Timer(job["interrupt_after"], interrupt).start()
        moola.compute_features(*columns, out=out)
    elif job["what"] == "build":
        if job.get("file_limit"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"],) * 2)
        bars = job["bars"]
        if job.get("stream"):
            import pyarrow.parquet as pq
            # Its own read-ahead would hold the whole file.
            file = pq.ParquetFile(bars, pre_buffer=False, buffer_size=1 << 20)
            bars = pyarrow.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(50_000))
        moola.build_features(bars, job["output"], progress=report, **job["options"])

def child(job):
    stages, result = [], {"stages": None}
    report = progress(job.get("die_at"), stages)
    try:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
            time.sleep(max(0, job["at"] - time.monotonic()))
            result["began"] = time.monotonic()
            work(job, report, result)
            result["outcome"] = "done"
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    except BaseException as error:
        result["outcome"] = type(error).__name__
        result["message"] = str(error)
    result |= {"ended": time.monotonic(), "stages": stages}
    result["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    # A file-size limit is for the store, not for this.
    os.write(job_pipe[1], json.dumps(result).encode() + b"\\n")

# Ctrl-C is meant for the children, and is blocked until they are ready for it.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
pipes = {}
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if "wait" in job:
        status = os.waitpid(job["wait"], 0)[1]
        text = os.read(pipes.pop(job["wait"]), 1 << 16).decode()
        print(json.dumps({"status": status} | json.loads(text or "{}")), flush=True)
        continue
    job_pipe = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(job)
        finally:
            os._exit(0)
    os.close(job_pipe[1])
    pipes[pid] = job_pipe[0]
    print(pid, flush=True)
"""


class Builders:
    """Processes that each do one build and may be killed. They finish all imports before they start."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self.server.stdout is not None
        return self.server.stdout.readline().strip()

    def _say(self, job: dict[str, Any]) -> str:
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(job) + "\n")
        return self._answer()

    def start(self, what: str = "build", *, at: float = 0.0, **job: Any) -> int:
        """Starts a process that begins its work at `at`, a time of the monotonic clock."""
        job["options"] = job.get("options") or {}
        return int(self._say({"what": what, "at": at} | job))

    def end(self, pid: int) -> dict[str, Any]:
        """Waits for a process. Returns its wait status, and its last message if there is one."""
        return json.loads(self._say({"wait": pid}))  # type: ignore[no-any-return]

    def build(self, bars: Path, output: Path, **job: Any) -> dict[str, Any]:
        """A build that is not disturbed."""
        return self.end(self.start(bars=str(bars), output=str(output), **job))

    def interrupt(self, pid: int) -> tuple[float, dict[str, Any]]:
        """Presses Ctrl-C. Returns the seconds until the process ended, and its last message."""
        sent = time.monotonic()
        os.kill(pid, signal.SIGINT)
        result = self.end(pid)
        return result["ended"] - sent, result
