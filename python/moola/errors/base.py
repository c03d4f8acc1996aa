"""The base of every error that moola raises on purpose, and the errors about arguments, inputs and devices."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any

__all__ = [
    "AdvisedError",
    "ConfigError",
    "DeviceError",
    "InputDeniedError",
    "InputError",
    "InputMissingError",
    "MoolaError",
    "PathError",
    "StateError",
    "TimestampError",
    "TooFewBarsError",
    "format_time",
]


class MoolaError(Exception):
    """The base of every error raised by moola.

    Each can be pickled and keeps its facts. Each can also be made from its text alone, as torch's DataLoader does with
    an error from a worker; its facts are None then.
    """

    def __init_subclass__(cls, **others: Any) -> None:
        super().__init_subclass__(**others)
        if "__init__" in cls.__dict__:
            cls.__init__ = _or_from_text(cls.__init__)  # type: ignore[method-assign]

    def __reduce__(self) -> tuple[Any, ...]:
        facts = dict(self.__dict__)
        if isinstance(self, OSError) and self.errno is not None:
            facts["errno"] = self.errno
        return _restore, (type(self), self.args, facts)


def _or_from_text(init: Callable[..., None]) -> Callable[..., None]:
    """Wraps an `__init__` that takes the facts, so that it also takes the text alone."""
    facts = list(signature(init).parameters)[1:]

    @wraps(init)
    def either(self: MoolaError, *args: Any, **named: Any) -> None:
        if named or len(args) != 1 or not isinstance(args[0], str):
            init(self, *args, **named)
            return
        super(MoolaError, self).__init__(args[0])
        for fact in facts:
            setattr(self, fact, None)

    return either


def _restore(kind: type[MoolaError], args: tuple[Any, ...], facts: dict[str, Any]) -> MoolaError:
    # Not through __init__, which takes the facts and not the message.
    base = OSError if issubclass(kind, OSError) else Exception
    error: MoolaError = base.__new__(kind, *args)
    error.args = args
    for name, fact in facts.items():
        setattr(error, name, fact)
    return error


class AdvisedError(MoolaError):
    """What is wrong, and what to do.

    Attributes: `problem`, `advice`.
    """

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}. {advice}")
        self.problem = problem
        self.advice = advice


class PathError(AdvisedError):
    """What is wrong with a file or a directory, and what to do.

    Attributes: `path`, `problem`, `advice`.
    """

    def __init__(self, path: str | Path, problem: str, advice: str) -> None:
        super().__init__(f"{path}: {problem}", advice)
        self.path = Path(path)
        self.problem = problem


class ConfigError(MoolaError, ValueError):
    """A parameter that does not exist, has the wrong type or lies outside its range.

    Attributes: `name` (the parameter), `problem` (what is wrong and what would be right).
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


class StateError(MoolaError, ValueError):
    """Saved stream state that is foreign, from another version, or damaged."""


class TimestampError(MoolaError, ValueError):
    """A time that a stream cannot take: it is missing, has no zone, or cannot be in the stream's unit."""


class InputError(AdvisedError, ValueError):
    """Input that cannot be read as bars: a missing column, a wrong type, an unknown format.

    Attributes: `source` (the file, or None), `problem`, `advice`.
    """

    def __init__(self, problem: str, advice: str, *, source: str | None = None) -> None:
        super().__init__(f"{source}: {problem}" if source else problem, advice)
        self.source = source
        self.problem = problem


class TooFewBarsError(InputError):
    """Bars that have no window: fewer than one window has, or none past the warm-up."""


class InputMissingError(InputError, FileNotFoundError):
    """The file of bars does not exist."""


class InputDeniedError(InputError, PermissionError):
    """The file exists, but this user may not read it."""


class DeviceError(AdvisedError, RuntimeError):
    """A device that does not exist, or parameters and data on different devices.

    Attributes: `problem`, `advice`.
    """


def format_time(nanoseconds: int) -> str:
    """UTC nanoseconds as ISO 8601, with as many decimals as they need."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0") + "Z" if rest else f"{text}Z"
