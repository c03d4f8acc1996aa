"""moola: causal features on minute bars, computed once and served fast."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from moola._core import __version__

if TYPE_CHECKING:
    from moola.errors import MoolaError as MoolaError
    from moola.synth import SampleMarket as SampleMarket
    from moola.synth import make_bars as make_bars

# Where each public name lives. A name is imported when it is first used: `import moola` does no work.
_HOMES = {
    "MoolaError": "moola.errors",
    "SampleMarket": "moola.synth",
    "make_bars": "moola.synth",
}

__all__ = ["MoolaError", "SampleMarket", "__version__", "make_bars"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'moola' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
