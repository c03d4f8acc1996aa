"""Random draws for windows. Each draw is a pure function of the window's key."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from moola import _core
from moola.data.hashing import fold, item_hashes, shift, signed
from moola.errors import ConfigError
from moola.settings.whole_numbers import whole_number

__all__ = ["chosen", "normals", "window_keys"]

# Makes augmentation independent of the mask for the same seed, epoch and window.
_START = signed(_core.symbol_hash("augmentation"))


def window_keys(
    seed: int, epoch: int, windows: Tensor | tuple[Tensor, Tensor], copy: int | Tensor = 0
) -> Tensor:
    """The keys for augmenting windows: `[B]` int64, on the device of `windows`.

    A key is the fold of seed, epoch, each of the window's words, and copy, with `fold` of
    `rust/moola-core/src/keys.rs`. If any of these differs, so does the key, except by a chance of 2⁻⁶⁴.

    Args:
        seed: The seed of the training run, from 0.
        epoch: The epoch, from 0.
        windows: Values that identify a window in any training set: `[B]` int64, such as the time of its last bar
            (`FastWindowedDataset.places(...).last_timestamp`). For several symbols, a pair `(symbol hashes, times)`,
            both `[B]` int64. The number of a window in a dataset also works.
        copy: The number of the copy of a window within the epoch, from 0; `[B]` int64 if it differs between windows.

    Raises `ConfigError` for numbers out of range and for tensors of another shape or type.
    """
    words = windows if isinstance(windows, tuple) else (windows,)
    if not words:
        raise ConfigError("windows", "is empty; give values that identify the windows, [B] int64")
    size = len(_words("windows", words[0]))
    # Every device treats a CPU tensor without dimensions as a number: nothing is copied, and nothing waits.
    key = torch.tensor(_START)
    for name, number in (("seed", seed), ("epoch", epoch)):
        key = fold(key, whole_number(name, number, 0))
    for word in words:
        key = fold(key, _words("windows", word, size))
    return fold(
        key, _words("copy", copy, size) if isinstance(copy, Tensor) else whole_number("copy", copy, 0)
    )


def _words(name: str, given: object, size: int | None = None) -> Tensor:
    if not isinstance(given, Tensor):
        raise ConfigError(name, f"is a {type(given).__name__}; give a tensor [B] of int64")
    if given.dtype != torch.int64 or given.ndim != 1 or (size is not None and len(given) != size):
        wanted = "one int64 for each window, [B]"
        raise ConfigError(name, f"is {given.dtype} of shape {list(given.shape)}; give {wanted}")
    return given


def chosen(keys: Tensor, p: float) -> Tensor:
    """`[B]` bool: chooses a share `p` of all keys, in steps of 2⁻⁵³. Uses item 0 of each key."""
    return shift(item_hashes(keys, 1)[:, 0], 11) < math.floor(p * 2**53)


def normals(keys: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Standard normal deviates, `[B, count]`, within ±6.7. Uses the items of each key from 1 on, one for two deviates.

    Source: Box and Muller, *A Note on the Generation of Random Normal Deviates*, Annals of Mathematical Statistics 29
    (1958). The upper half of a hash gives the radius, the lower half the angle.
    """
    pairs = (count + 1) // 2
    hashes = item_hashes(keys, pairs + 1)[:, 1:]
    radius = (shift(hashes, 32) + 1).to(dtype).mul_(2**-32)
    radius = radius.log_().mul_(-2).sqrt_()
    angle = (hashes & 0xFFFFFFFF).to(dtype).mul_(2 * math.pi / 2**32)
    both = torch.empty((len(keys), 2, pairs), dtype=dtype, device=keys.device)
    torch.cos(angle, out=both[:, 0])
    torch.sin(angle, out=both[:, 1])
    both *= radius[:, None]
    return both.view(len(keys), 2 * pairs)[:, :count]
