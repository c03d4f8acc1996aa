"""Augmentation of training windows, in batches on the model's device: jitter, magnitude warp, time warp.

Each augmentation is a `torch.nn.Module` of its own; `Augmentation` applies all three. The draw for a window depends
only on its key, which `window_keys` computes from (seed, epoch, window, copy). Batch, order and device do not matter.
`feature_scale` and `feature_ranges` compute the arguments of `Augmentation` from a dataset. This loop serves each
window `copies` times in an epoch, each time with a new draw:

>>> import torch
>>> from moola.augment import Augmentation, window_keys
>>> augmentation = Augmentation(scale=torch.ones(3))
>>> x, windows = torch.randn(8, 105, 3), torch.arange(8)
>>> spans = torch.tensor([[30, 41]]).expand(8, 2)
>>> for copy in range(augmentation.copies):
...     keys = window_keys(seed=0, epoch=4, windows=windows, copy=copy)
...     warped, moved, _ = augmentation(x, keys, spans)
>>> warped.shape
torch.Size([8, 105, 3])

Keys, and the choice of windows that a module changes, are the same to the bit on every device. Normal deviates are
computed from keys by logarithm, root and cosine, which devices round differently: by about 1e-15 in warps, which use
float64, and by about 1e-6 in jitter, which uses float32. This changes hidden bars and rounded spans only in a tie. On
one device, a window's result has the same bits in any batch.

A module in eval mode returns its input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.augment.draws import window_keys as window_keys
    from moola.augment.scales import feature_ranges as feature_ranges
    from moola.augment.scales import feature_scale as feature_scale
    from moola.augment.warps import Augmentation as Augmentation
    from moola.augment.warps import Augmented as Augmented
    from moola.augment.warps import Jitter as Jitter
    from moola.augment.warps import MagnitudeWarp as MagnitudeWarp
    from moola.augment.warps import TimeWarp as TimeWarp
    from moola.settings.augmentation import AugmentationConfig as AugmentationConfig

# Imported on first use, so that a configuration can be read and checked without torch.
_HOMES = {
    "Augmentation": "moola.augment.warps",
    "AugmentationConfig": "moola.settings.augmentation",
    "Augmented": "moola.augment.warps",
    "Jitter": "moola.augment.warps",
    "MagnitudeWarp": "moola.augment.warps",
    "TimeWarp": "moola.augment.warps",
    "feature_ranges": "moola.augment.scales",
    "feature_scale": "moola.augment.scales",
    "window_keys": "moola.augment.draws",
}

__all__ = [
    "Augmentation",
    "AugmentationConfig",
    "Augmented",
    "Jitter",
    "MagnitudeWarp",
    "TimeWarp",
    "feature_ranges",
    "feature_scale",
    "window_keys",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
