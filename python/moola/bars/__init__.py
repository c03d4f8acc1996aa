"""Reads bars from files and Arrow objects, and makes a sample market."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.bars.market import SampleMarket as SampleMarket
    from moola.bars.market import make_bars as make_bars
    from moola.bars.options import ReadOptions as ReadOptions
    from moola.bars.source import BarSource as BarSource
    from moola.bars.source import Batch as Batch
    from moola.bars.source import SourceFile as SourceFile
    from moola.bars.source import open_bars as open_bars

_HOMES = {
    "BarSource": "moola.bars.source",
    "Batch": "moola.bars.source",
    "ReadOptions": "moola.bars.options",
    "SampleMarket": "moola.bars.market",
    "SourceFile": "moola.bars.source",
    "make_bars": "moola.bars.market",
    "open_bars": "moola.bars.source",
}

__all__ = ["BarSource", "Batch", "ReadOptions", "SampleMarket", "SourceFile", "make_bars", "open_bars"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
