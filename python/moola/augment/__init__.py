"""Augmentation of windows while a model trains, batched and on its device: jitter, magnitude warp, time warp.

Each is a `torch.nn.Module` that is usable alone; `Augmentation` applies all three. What is drawn for a window follows
from its key alone, and a key from (seed, epoch, window, copy), by `window_keys`: neither the batch a window is
served in, nor the order, nor the device plays a part. `feature_scale` and `feature_ranges` take from a dataset what
`Augmentation` has to know of features. Serving each window `copies` times an epoch, each time with a
draw of its own, is a loop:

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

To the bit the same everywhere are keys, and which windows each module changes. The normal deviates come of them by
logarithm, root and cosine, which devices round differently: by some 1e-15 of a deviate in warps, which are drawn in
float64, and some 1e-6 in jitter, in float32. Whether a bar is hidden, and a span's rounding, can only differ where that
tips a tie. On one device, a window's result has the same bits in any batch.

A module in eval mode hands on what it gets.
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

# Imported when first used: a configuration can be read, and its errors told, without torch.
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
