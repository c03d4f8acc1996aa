"""A builder: prints that it is ready, waits for a line, builds, and prints the result."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tiny_store import write_files

from moola.files.publishing import publishing

path, overwrite, fill = Path(sys.argv[1]), sys.argv[2] == "overwrite", float(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
try:
    with publishing(path, overwrite=overwrite) as staging:
        print("building", flush=True)
        if len(sys.argv) > 4:
            write_files(staging.path, fill=fill, lengths=[int(sys.argv[4])])
            print("written", flush=True)
            sys.stdin.readline()
        else:
            write_files(staging.path, fill=fill)
    print("published", flush=True)
except Exception as error:
    print(type(error).__name__, flush=True)
except KeyboardInterrupt:
    print(time.monotonic(), "KeyboardInterrupt", flush=True)
