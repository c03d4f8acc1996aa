"""The base of inputs from files: their path, partitions in the path, and errors that name the file."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from moola.bars.formats.inputs import Input, brief
from moola.errors import InputDeniedError, InputError, InputMissingError, MoolaError
from moola.files.identity import identity_of

__all__ = ["FileInput", "denied_file", "missing_file", "partitions_of"]


class FileInput(Input):
    """A file on disk."""

    path: Path

    def __init__(self, path: Path, contents: str = "bars") -> None:
        super().__init__(str(path), contents)
        self.path = path
        # Before anything is read: a file that changes later has another identity.
        self.identity = identity_of(path)
        self.partitions = partitions_of(path)
        with self.errors():
            self.prepare()

    def prepare(self) -> None:
        """Finds the columns."""
        raise NotImplementedError

    def batches(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        raise NotImplementedError

    def read(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        with self.errors():
            yield from self.batches(columns, numbers, names)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns errors of the libraries into errors that name the file."""
        import pyarrow as pa

        try:
            yield
        except MoolaError:
            raise
        except FileNotFoundError as error:
            raise missing_file(self.path) from error
        except PermissionError as error:
            raise denied_file(self.path) from error
        except pa.ArrowNotImplementedError as error:
            raise self.refusal(
                f"uses a feature that this pyarrow cannot read ({brief(error)})",
                "Write it again with common settings",
            ) from error
        except (
            *(pa.ArrowException, OSError, EOFError, UnicodeDecodeError, struct.error),
            *(zipfile.BadZipFile, zlib.error),
        ) as error:
            raise self.damage(error) from error

    def damage(self, error: Exception) -> InputError:
        return self.refusal(
            f"is damaged or cut short ({brief(error)})",
            "Fetch or write it again, then compare its size with the source's",
        )


def missing_file(path: Path) -> InputError:
    try:
        near = get_close_matches(path.name, os.listdir(path.parent), 1)
    except OSError:
        near = []
    hint = f" Did you mean {path.parent / near[0]}?" if near else ""
    if not path.parent.exists():
        hint = f" There is no directory {path.parent} either."
    return InputMissingError("there is no such file", f"Check the path.{hint}", source=str(path))


def denied_file(path: Path) -> InputError:
    return InputDeniedError("may not be read", f"Ask its owner, or run chmod u+r {path}", source=str(path))


def partitions_of(path: Path) -> dict[str, str]:
    """The values that the directories of a path name, as in ``symbol=ES%2FNQ/2024.parquet``."""
    from urllib.parse import unquote

    pairs = (part.split("=", 1) for part in path.parts[:-1] if "=" in part)
    return {unquote(key): unquote(value) for key, value in pairs}
