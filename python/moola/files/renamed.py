"""Keeps old names of keywords and attributes working for one version, with a `DeprecationWarning`."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

__all__ = ["renamed_attribute", "renamed_keywords", "renamed_value"]

P = ParamSpec("P")
R = TypeVar("R")


def renamed_keywords(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Lets a function take keywords under old names: `@renamed_keywords(old="new")`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def called(*arguments: P.args, **given: P.kwargs) -> R:
            for old, new in names.items():
                if old in given:
                    _warn(f"the keyword {old} of {function.__name__} is now {new}", 3)
                    given[new] = given.pop(old)
            return function(*arguments, **given)

        return called

    return decorate


def renamed_attribute(old: str, new: str) -> Any:
    """A property that gives the attribute `new` under its old name: `old = renamed_attribute("old", "new")`."""

    def read(self: Any) -> Any:
        return renamed_value(self, old, new, level=4)

    return property(read, doc=f"The old name of `{new}`; it goes in 0.3.0.")


def renamed_value(owner: Any, old: str, new: str, *, level: int = 4) -> Any:
    """The attribute `new` of `owner`, with a warning that `old` is its old name. For a property that is written out."""
    _warn(f"{type(owner).__name__}.{old} is now {new}", level)
    return getattr(owner, new)


def _warn(what: str, level: int) -> None:
    warnings.warn(f"{what}; the old name goes in 0.3.0", DeprecationWarning, stacklevel=level)
