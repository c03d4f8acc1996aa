"""Names of a package that are imported when they are first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose names live in other modules: `homes` says where.

    A name may be that of the module it lives in, such as `moola.evaluation.out_of_fold`: as a name of the package it is
    the function.
    """
    names = vars(sys.modules[package])

    class Package(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            # Whoever imports a module first, Python would enter it here, and the function would never be looked for.
            if name not in homes or not isinstance(value, ModuleType):
                super().__setattr__(name, value)

    sys.modules[package].__class__ = Package

    def find(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = names[name] = getattr(importlib.import_module(home), name)
        return value

    return find, lambda: sorted({*names, *homes})
