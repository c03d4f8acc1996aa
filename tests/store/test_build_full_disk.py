"""Builds on a full disk end in a clear error, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from build_processes import BUILD, Builders
from builds import (
    check_sound,
    names,
)


@pytest.mark.parametrize("stream", [False, True])
def test_a_limit_on_file_sizes_is_an_error(
    tmp_path: Path, builders: Builders, sample: Path, stream: bool
) -> None:
    """In any file: bars, features or windows, and also while rows are regrouped."""
    folder = tmp_path / "stores"
    folder.mkdir()
    path = folder / "store"
    options: dict[str, Any] = BUILD | {"layout": "windows", "window_length": 4}
    assert builders.build(sample, path, options=options)["outcome"] == "done"
    before = check_sound(path).id
    sizes = sorted({file.stat().st_size for file in path.iterdir()})
    limits = [1, 100, 5_000, *(size - 1 for size in sizes if size > 100_000)]
    struck = set()
    for k, limit in enumerate(limits):
        output = folder / "new" / "other" if k % 2 else path
        result = builders.build(sample, output, options=options, file_limit=limit, stream=stream)
        assert result["outcome"] == "StoreWriteError", result
        assert "cannot be written: File too large (" in result["message"]
        assert "nothing was left behind. Raise the limit on file sizes (ulimit -f)" in result["message"]
        struck.add(result["message"].split("(")[1].split(")")[0])
        assert names(folder) == ["store"]
        assert check_sound(path).id == before
    assert {"bars.npy", "features_10d.npy"} <= struck
    assert builders.build(sample, path, options=options)["outcome"] == "done"
    assert names(folder) == ["store"]


FULL_DISK = """
import contextlib, os, subprocess, sys, tempfile
from pathlib import Path
import pyarrow as pa
import pytest
import moola
from moola.errors import InputError, StoreWriteError
from builds import check_sound, names, table, times

disk = Path(sys.argv[1])

def resize(size):
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)

n = 20_000
data = table(n, symbol=["A", "B"] * (n // 2))
options = {"keep": "volume", "layout": sys.argv[2], "window_length": 5, "stamp": "close"}
resize("1g")
before = moola.build_features(table(500, seed=9), disk / "store", window_length=20).id
used = sum(-(-file.stat().st_size // 4096) * 4096 for file in (disk / "store").iterdir())
moola.build_features(data, disk / "other", **options).close()
need = sum(-(-file.stat().st_size // 4096) * 4096 for file in (disk / "other").iterdir())
subprocess.run(["rm", "-r", disk / "other"], check=True)
struck = set()
for part in range(1, 20):
    # tmpfs counts a page or so of its own.
    resize(used + need * part // 20)
    for name, overwrite in (("other", False), ("store", True)):
        with pytest.raises(StoreWriteError) as caught:
            moola.build_features(data, disk / name, overwrite=overwrite, **options)
        message = str(caught.value)
        assert caught.value.errno == 28, message
        assert message.startswith(f"{disk / name}: cannot be written: No space left on device"), message
        assert message.endswith("nothing was left behind. Free some space, or build on another disk"), message
        struck.add(message.partition("device (")[2].partition(")")[0])
        assert names(disk) == ["store"], names(disk)
        assert check_sound(disk / "store").id == before
assert len(struck) >= 2, struck
resize("1g")
moola.build_features(data, disk / "store", overwrite=True, **options).close()
assert check_sound(disk / "store").id != before
assert names(disk) == ["store"]

# A stream that must be read twice is stored in the directory for temporary files, which may be full too.
resize(used + 2 * need)
moments = [f"{1 + i // 28}/{1 + i % 28}/2024 {h}:{m:02}" for i in range(28) for h in range(24) for m in range(60)]
slashed = table(len(moments), timestamp=moments)
os.environ["TMPDIR"] = str(disk)
full = disk / "full"
with full.open("wb", buffering=0) as file, contextlib.suppress(OSError):
    while True:
        file.write(bytes(4096))
# Room enough to look like a place for temporary files.
os.truncate(full, full.stat().st_size - 65_536)
tempfile.tempdir = None
elsewhere = Path(sys.argv[3])
reader = pa.RecordBatchReader.from_batches(slashed.schema, slashed.to_batches(1000))
with pytest.raises(InputError) as caught:
    moola.build_features(reader, elsewhere / "store", tz="UTC")
message = str(caught.value)
assert message.startswith("<pyarrow.RecordBatchReader>: is read twice because of its dates"), message
assert "No space left on device" in message, message
assert "Set TMPDIR to a directory with room, or save the bars to a file" in message, message
assert names(elsewhere) == []
"""


@pytest.mark.parametrize("layout", ["bars", "windows"])
def test_a_full_disk_is_an_error(tmp_path: Path, layout: str) -> None:
    # A small file system that only this process sees, and that ends with it.
    alone = ["unshare", "--mount", "--user", "--map-root-user", "sh", "-ec"]
    mount = "mount -t tmpfs -o size=1g tmpfs $1"
    (tmp_path / "disk").mkdir()
    (tmp_path / "elsewhere").mkdir()
    probe = f"{mount}; mount -o remount,size=1m $1"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*alone, probe, "-", tmp_path / "disk"], check=False).returncode
    ):
        pytest.skip("no file system can be mounted here; the limit on file sizes is tested above")
    script = f'{mount}; disk=$1; exec "$2" -c "$3" "$disk" "$4" "$5"'
    command = [
        *alone,
        script,
        "-",
        str(tmp_path / "disk"),
        sys.executable,
        FULL_DISK,
        layout,
        str(tmp_path / "elsewhere"),
    ]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths}
    )
    assert result.returncode == 0, result.stderr
