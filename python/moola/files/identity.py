"""The identity of a file at one moment, to tell whether it was replaced or written since."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["FileIdentity", "identity_of"]


class FileIdentity(NamedTuple):
    """Which file a path meant, and its state. It costs no reading, unlike a hash."""

    device: int
    inode: int
    size: int
    modified: int
    """Nanoseconds."""


def identity_of(path: str | os.PathLike[str]) -> FileIdentity | None:
    """The identity of the file that the path means now; None where there is no file."""
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return FileIdentity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
