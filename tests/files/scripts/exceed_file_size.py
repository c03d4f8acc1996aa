"""Replaces a store under a limit of 2,000 bytes per file, and prints the error."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from tiny_store import build

from moola.errors import StoreWriteError

resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    build(Path(sys.argv[1]), overwrite=True)
except StoreWriteError as error:
    print(error)
