"""Publishes a directory and replaces a file, so that a reader sees a whole one or none."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from moola import _core
from moola.errors import MoolaError, StoreWriteError

__all__ = ["UNFINISHED", "publishing", "replacing_file", "write_file", "write_new_file"]

UNFINISHED = ".moola-tmp"
"""The suffix of files and directories that are unfinished, or were left by a killed process."""


def publishing(path: str | os.PathLike[str], *, overwrite: bool = False) -> _core.Staging:
    """A context in which a store is built. At its end the whole store stands under its name, on disk.

    ::

        with publishing("stores/es") as staging:
            write_everything_into(staging.path)

    `staging.path` is a temporary directory beside the store's place. When the block succeeds, the files are fsynced
    and the directory is renamed, never onto something that exists. With `overwrite` it takes the place of an existing
    store; processes that have the old store open go on reading the old bytes. When the block ends in an exception,
    Ctrl-C included, the directory is removed, and an existing store is unchanged. The next build of a name removes what
    a killed build of it left. Missing parent directories are created.

    Raises before any work: `StoreExistsError` when something stands at `path` (with `overwrite`: something that is not
    a moola store), `BuildConflictError` when another process is replacing the store, `StoreWriteError` when the file
    system cannot rename without replacing, cannot exchange or cannot be written to, and `ConfigError` when `path`
    cannot be a store's name. Raises at the end: `BuildConflictError` when another builder was faster, and
    `StoreWriteError` when the system refuses, for instance because the disk is full.
    """
    try:
        return _core.Staging(os.fspath(path), overwrite)
    except MoolaError:
        raise
    except OSError as error:
        raise _explained(error, Path(path)) from error


@contextmanager
def replacing_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives the block a new file beside `path` to write. At the end the file is fsynced and renamed to `path`.

    A reader sees the whole new file or what stood there before. When the block ends in an exception, the new file is
    removed. Several writers of one name each have a file of their own; readers see that of the last to end. A writer
    locks its file, and a lock ends with its process: a file that can be locked was left by a killed process, and the
    next writer removes it.

    Raises `StoreWriteError` when the system refuses, for instance because the disk is full.
    """
    path = Path(path)
    beside = path
    try:
        _clear_left(path)
        while True:
            beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
            with beside.open("xb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not beside.exists():
                    # Another writer took it for left, and removed it, in the moment before it was locked.
                    continue
                yield beside
                os.fsync(file.fileno())
                beside.replace(path)
            break
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except BaseException as error:
        if beside != path:
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, MoolaError):
            # The name of the temporary file would mean nothing to the user.
            raise _explained(error, path, str(path) if error.filename == str(beside) else None) from error
        raise


def _clear_left(path: Path) -> None:
    """Removes what killed writers of `path` have left."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}{re.escape(UNFINISHED)}")
    for other in path.parent.iterdir():
        if pattern.fullmatch(other.name):
            # A file that may not be opened belongs to another user.
            with suppress(OSError), other.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                other.unlink()


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file as :func:`replacing_file` does."""
    with replacing_file(path) as beside:
        beside.write_bytes(data)


def write_new_file(path: str | os.PathLike[str], data: bytes) -> int:
    """Writes a file that must not exist yet, such as one of a store that is being built. Returns its size in bytes."""
    with open(path, "xb") as file:
        try:
            file.write(data)
            file.flush()
        except OSError as error:
            # A failed write does not know its file.
            error.filename = os.fspath(path)
            raise
    return len(data)


def explain(error: BaseException, staging: Path, store: Path) -> BaseException:
    """The error to raise when building `store` in `staging` ended in `error`: a `StoreWriteError` where it fits."""
    if not isinstance(error, OSError) or isinstance(error, MoolaError):
        return error
    # An error of the same kind about the source of the bars is left as it is.
    ours = (str(staging), str(store), str(store.parent))
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
    about_us = name in ours or name.startswith(str(staging) + os.sep)
    if not about_us and error.errno not in _NO_ROOM:
        return error
    return _explained(error, store, file=Path(name).name if name.startswith(str(staging) + os.sep) else None)


_NO_ROOM = {
    errno.ENOSPC: "Free some space, or build on another disk",
    errno.EDQUOT: "Free some of your quota, or build on another disk",
    errno.EFBIG: "Raise the limit on file sizes (ulimit -f), or build on another disk",
}
_ADVICE = _NO_ROOM | {
    errno.EACCES: "Ask for permission to write there, or choose another directory",
    errno.EPERM: "Ask for permission to write there, or choose another directory",
    errno.EROFS: "Choose a directory that can be written to",
    errno.ENOTDIR: "Choose a place below a directory",
    errno.EIO: "Check the disk, or build on another one",
}


def _explained(error: OSError, store: Path, file: str | None = None) -> StoreWriteError:
    # Arrow's message names a file of its own; errno beside it has the reason.
    reason = os.strerror(error.errno) if error.errno and not error.filename else None
    what = reason or error.strerror or str(error)
    where = file or error.filename
    where = None if str(where) == str(store) else where
    problem = f"cannot be written: {what}" + (f" ({where})" if where else "") + "; nothing was left behind"
    advice = _ADVICE.get(error.errno or 0, "Check that the directory can be written to, or choose another")
    return StoreWriteError(store, problem, advice, errno=error.errno)
