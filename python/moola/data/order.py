"""The order in which an epoch's windows are served, computed without a list of windows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from moola import _core
from moola.errors import ConfigError
from moola.settings.arrays import Numbers

__all__ = ["Shares", "WindowOrder"]

# The purposes of permutations. Each has a key of its own.
_EPOCH, _SYMBOL = 0, 1


@dataclass(frozen=True, slots=True)
class Shares:
    """An epoch divided among symbols. Arrays are per symbol, or per piece where pieces are sorted by symbol."""

    names: tuple[str, ...]
    ends: Numbers
    """The number of the epoch's windows up to and including this symbol."""
    counts: Numbers
    """The number of different windows of the symbol."""
    first_piece: Numbers
    piece_ends: Numbers
    """The number of windows up to and including this piece."""
    piece_first: Numbers
    """The number in the dataset of the piece's first window."""

    @classmethod
    def make(cls, weights: Mapping[str, float], symbols: list[str], counts: Numbers, total: int) -> Shares:
        """Shares of `total` windows in proportion to the weights; `symbols` and `counts` are those of pieces.

        Raises `ConfigError` when a symbol has no weight, or a weight is negative or not finite.
        """
        there = sorted(set(symbols))
        for name in (*there, *weights):
            if name not in weights:
                raise ConfigError(
                    "weights", f"symbol {name!r} has no weight; give 0 to leave its windows out"
                )
            weight = weights[name]
            if not _is_weight(weight):
                raise ConfigError("weights", f"{name!r} has {weight!r}; give finite numbers from 0 on")
            if name not in there:
                raise ConfigError(
                    "weights", f"there is no symbol {name!r} here; there are {', '.join(there)}"
                )
        names = tuple(name for name in there if weights[name] > 0)
        if not names:
            raise ConfigError("weights", "are all 0; give at least one symbol a share")
        # Whole windows, by largest remainders, the earlier name on ties.
        exact = np.array([weights[name] for name in names], np.float64)
        if not 1e-250 < exact.max() < 1e250:
            # Neither their sum nor what they are multiplied by would be a float64.
            exact /= exact.max()
        exact *= total / exact.sum()
        quota = np.floor(exact).astype(np.int64)
        most = np.argsort(-(exact - quota), kind="stable")[: total - int(quota.sum())]
        quota[most] += 1

        number = {name: i for i, name in enumerate(names)}
        of_piece = np.array([number.get(symbol, -1) for symbol in symbols], np.int64)
        first = np.cumsum(counts) - counts
        order = np.argsort(of_piece, kind="stable")
        order = order[np.searchsorted(of_piece[order], 0) :]
        sizes = counts[order]
        ends = np.cumsum(sizes)
        first_piece = np.searchsorted(of_piece[order], np.arange(len(names)))
        per_symbol = np.diff(np.append((ends - sizes)[first_piece], ends[-1]))
        return cls(names, np.cumsum(quota), per_symbol, first_piece, ends, first[order])

    def windows(self, slots: Numbers, seed: int, epoch: int) -> Numbers:
        """The dataset's number of the window in each slot of the epoch.

        A symbol with more slots than windows serves all of them, then all again in another order.
        """
        symbol = np.searchsorted(self.ends, slots, side="right")
        offset = slots - np.where(symbol > 0, self.ends[symbol - 1], 0)
        counts = self.counts[symbol]
        laps = offset // counts
        offset %= counts
        # Each lap of each symbol is a permutation of its own.
        order = np.lexsort((laps, symbol))
        edges = np.flatnonzero((np.diff(symbol[order]) != 0) | (np.diff(laps[order]) != 0)) + 1
        within = np.empty(len(slots), np.int64)
        for group in np.split(order, edges) if len(order) else ():
            s, lap = symbol[group[0]], int(laps[group[0]])
            words = [_SYMBOL, seed, epoch, _core.symbol_hash(self.names[s]), lap]
            within[group] = _core.permute(offset[group], int(self.counts[s]), _core.permutation_key(words))
        first_piece = self.first_piece[symbol]
        before = np.where(first_piece > 0, self.piece_ends[first_piece - 1], 0)
        piece = np.searchsorted(self.piece_ends, before + within, side="right")
        into = before + within - np.where(piece > 0, self.piece_ends[piece - 1], 0)
        numbers: Numbers = self.piece_first[piece] + into
        return numbers


def _is_weight(given: float) -> bool:
    try:
        return math.isfinite(given) and given >= 0
    except (TypeError, OverflowError):
        return False


@dataclass(frozen=True, slots=True)
class WindowOrder:
    """The windows of each batch of each epoch, for one rank of several.

    Rank r has the places r, r + world_size, r + 2·world_size, … of the epoch. With `drop_last`, all
    ranks have the same number of batches.
    """

    windows: int
    batch_size: int
    shuffle: bool
    drop_last: bool
    rank: int = 0
    world_size: int = 1
    shares: Shares | None = None

    @property
    def size(self) -> int:
        """The number of windows that this rank serves in an epoch."""
        if self.drop_last:
            return self.windows // self.world_size // self.batch_size * self.batch_size
        return (self.windows - self.rank + self.world_size - 1) // self.world_size

    @property
    def batches(self) -> int:
        """The number of batches that this rank serves in an epoch."""
        return -(-self.size // self.batch_size)

    def numbers(self, seed: int, epoch: int, first: int, last: int) -> Numbers:
        """The windows of batches `first` to `last − 1`, one batch after the other."""
        places = np.arange(first * self.batch_size, min(last * self.batch_size, self.size), dtype=np.int64)
        places = places * self.world_size + self.rank
        if self.shuffle:
            key = _core.permutation_key([_EPOCH, seed, epoch])
            places = _core.permute(places, self.windows, key).view(np.int64)
        return places if self.shares is None else self.shares.windows(places, seed, epoch)
