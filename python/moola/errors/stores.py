"""Errors about feature stores."""

from __future__ import annotations

from pathlib import Path

from moola.errors.base import PathError

__all__ = [
    "BuildConflictError",
    "DamagedStoreError",
    "StaleStoreError",
    "StoreError",
    "StoreExistsError",
    "StoreMissingError",
    "StoreWriteError",
]


class StoreError(PathError):
    """The base of the errors about feature stores.

    Attributes: `path` (of the store), `problem`, `advice`.
    """


class StoreMissingError(StoreError, FileNotFoundError):
    """There is no store at this path."""


class StoreExistsError(StoreError, FileExistsError):
    """Something already stands where the store should go."""


class StoreWriteError(StoreError, OSError):
    """The system refused to write: a full disk, a missing permission, an unfit file system.

    Attribute: `errno`, where the system gave one.
    """

    def __init__(self, path: str | Path, problem: str, advice: str, *, errno: int | None = None) -> None:
        super().__init__(path, problem, advice)
        self.errno = errno


class DamagedStoreError(StoreError):
    """A file of the store is missing, foreign, truncated or altered. Attribute: `file`."""

    def __init__(self, path: str | Path, file: str, problem: str, advice: str | None = None) -> None:
        super().__init__(
            path,
            f"{file}: {problem}",
            advice
            or "Build the store again, or restore it from a copy; `moola verify-features` names every fault",
        )
        self.file = file


class StaleStoreError(StoreError):
    """The path holds a store other than the one that was opened."""


class BuildConflictError(StoreError):
    """Another builder has published the store of this name, or is replacing it."""
