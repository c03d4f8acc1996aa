"""What is drawn for a window: a pure function of its key."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from moola import _core
from moola.data.hashing import fold, item_hashes, shift, signed
from moola.errors import ConfigError
from moola.settings.whole_numbers import whole_number

__all__ = ["chosen", "normals", "window_keys"]

# So that an augmentation and a mask of the same seed, epoch and window have nothing to do with each other.
_START = signed(_core.symbol_hash("augmentation"))


def window_keys(
    seed: int, epoch: int, windows: Tensor | tuple[Tensor, Tensor], copy: int | Tensor = 0
) -> Tensor:
    """The keys that windows are augmented by, `[B]` int64, on the device of `windows`.

    With `fold` of `rust/moola-core/src/keys.rs`, a key is the fold of seed, epoch, each of the window's words, and
    copy. Windows that differ in one of them have keys of their own; chance repeats one among 2⁶⁴.

    Args:
        seed: Of the training run, from 0 on.
        epoch: From 0 on.
        windows: What identifies a window in every training set: `[B]` int64, such as the time of its
            last bar (`FastWindowedDataset.places(...).last_timestamp`), or a pair `(symbol hashes, times)`, both
            `[B]` int64, where there are several symbols. The number of a window in a dataset will do as well.
        copy: Which of the times that an epoch serves the window, from 0 on; `[B]` int64 where it differs.

    Raises `ConfigError` for numbers out of range and tensors of another shape or type.
    """
    words = windows if isinstance(windows, tuple) else (windows,)
    if not words:
        raise ConfigError("windows", "is empty; give what tells windows apart, [B] int64")
    size = len(_words("windows", words[0]))
    # Without a dimension, a tensor on the CPU is a number to every device: nothing is copied, nothing waits.
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
        wanted = "one int64 a window, [B]"
        raise ConfigError(name, f"is {given.dtype} of shape {list(given.shape)}; give {wanted}")
    return given


def chosen(keys: Tensor, p: float) -> Tensor:
    """`[B]` bool: of all keys a share `p`, in steps of 2⁻⁵³. It takes item 0 of the key."""
    return shift(item_hashes(keys, 1)[:, 0], 11) < math.floor(p * 2**53)


def normals(keys: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Standard normal deviates, `[B, count]`, within ±6.7. They take the items of the key from 1 on, one for two.

    Box and Muller, *A Note on the Generation of Random Normal Deviates*, Annals of Mathematical Statistics 29 (1958):
    of a hash, the upper half makes the radius, the lower half the angle.
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
