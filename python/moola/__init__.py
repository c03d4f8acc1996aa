"""moola: causal features on minute bars, computed once and served fast."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from moola._core import __version__

if TYPE_CHECKING:
    from moola.errors import MoolaError as MoolaError

# Where each public name lives. A name is imported when it is first used: `import moola` does no work.
_HOMES = {
    "MoolaError": "moola.errors",
}

__all__ = ["MoolaError", "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'moola' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
