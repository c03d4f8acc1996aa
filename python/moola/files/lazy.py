"""Lets a package offer names that are imported when they are first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: str, homes: Mapping[str, str], renamed: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes the `__getattr__` and `__dir__` of a package whose names live in other modules.

    Args:
        package: The package's `__name__`.
        homes: The module of each name. No name may be that of a submodule, because Python would put the module there.
        renamed: Old names, each with the name in `homes` that replaced it. Using one gives a `DeprecationWarning`.
    """
    names = vars(sys.modules[package])
    old = renamed or {}

    def find(name: str) -> Any:
        if (new := old.get(name)) is not None:
            import warnings

            warnings.warn(
                f"{package}.{name} is now {package}.{new}; the old name goes in 0.3.0",
                DeprecationWarning,
                stacklevel=2,
            )
            return names[new] if new in names else find(new)
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = names[name] = getattr(importlib.import_module(home), name)
        return value

    return find, lambda: sorted({*names, *homes})
