"""Where the windows of a dataset lie: stretches of rows in its stores, and their fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moola import _core
from moola.errors import DamagedStoreError
from moola.files.fingerprint import fingerprint
from moola.store.layout import METADATA, SPLITS
from moola.store.reader import FeatureStore
from moola.store.windows import window_pieces

__all__ = ["Pieces", "find_pieces", "fingerprint_of"]


class Pieces(NamedTuple):
    """Stretches of windows, one column a property. The engine finds a window's place in them."""

    windows: NDArray[np.uint64]
    """How many."""
    row: NDArray[np.uint64]
    place: NDArray[np.uint64]
    store: NDArray[np.uint32]
    symbol: NDArray[np.uint64]


def find_pieces(
    stores: Sequence[FeatureStore], ranges: Sequence[NDArray[np.int64]], length: int, stride: int
) -> tuple[Pieces, list[str]]:
    """The stretches of windows in these ranges of the stores' rows, and the symbol of each."""
    names: list[str] = []
    hashes: dict[str, int] = {}
    columns: list[tuple[NDArray[Any], ...]] = []
    for number, (store, rows) in enumerate(zip(stores, ranges, strict=True)):
        begin, last = window_pieces(store, rows, length, stride)
        segments = store.segments
        names += (
            symbols := [
                segments[i].symbol for i in np.searchsorted(store.bounds.first, begin, side="right") - 1
            ]
        )
        for symbol in set(symbols) - hashes.keys():
            hashes[symbol] = _core.symbol_hash(symbol)
        place = begin
        if store.window_starts is not None:
            # All windows of a segment are stored, so those of a piece stand one after the other.
            starts = store.window_starts
            place = np.searchsorted(starts, begin)
            end = place + (last - begin)
            if len(begin) and not (
                end.max() < len(starts) and (starts[place] == begin).all() and (starts[end] == last).all()
            ):
                problem = "its windows are not those of the segments"
                raise DamagedStoreError(store.path, "window_starts.npy", problem)
        of_store = np.full(len(begin), number)
        symbol_column = np.array([hashes[symbol] for symbol in symbols], np.uint64)
        columns.append(((last - begin) // stride + 1, begin, place, of_store, symbol_column))
    count, row, place, store_column, symbol_column = (
        np.concatenate(parts) for parts in zip(*columns, strict=True)
    )
    pieces = Pieces(
        count.astype(np.uint64),
        row.astype(np.uint64),
        place.astype(np.uint64),
        store_column.astype(np.uint32),
        symbol_column,
    )
    return pieces, names


def fingerprint_of(stores: Sequence[FeatureStore], pieces: Pieces) -> str:
    """A hash of the stores' arrays and of where in them the windows lie."""
    files = [
        f"{name} {digest}\n"
        for store in stores
        for name, digest in sorted(store.checksums().items())
        # These two also say when and by which version a store was built.
        if name not in (METADATA, SPLITS)
    ]
    return fingerprint([*files, *pieces])
