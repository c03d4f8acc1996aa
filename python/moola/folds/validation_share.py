"""Splits labelled windows into training and validation by a share, whole groups at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moola.errors import SplitError
from moola.settings.arrays import Numbers

__all__ = ["part_by_share"]

# Number of random orders of the groups to try. The order with the best class shares is used.
_ORDERS = 64


def part_by_share(
    y: Numbers, groups: Numbers, share: float, seed: int, names: Sequence[str] = ()
) -> tuple[Numbers, Numbers]:
    """Splits windows so that validation has the given share, as closely as whole groups allow.

    Groups are taken in a random order until validation is as close to `share` of all windows as this order allows. 64
    orders are tried, and the one whose classes are closest to their shares is used.

    Args:
        y: `[n]`, the class of each window.
        groups: `[n]`, the group of each window. No group is on both sides.
        share: The share of validation windows, between 0 and 1.
        seed: Determines the orders.
        names: The name of each class, for an error.

    Returns:
        (train, validation), ascending numbers of windows. The number of validation windows differs from `share * n` by
        at most half of the largest group, unless `share * n` is below the first group's size.

    Raises `SplitError` if every order leaves training without a class, or one side without windows.
    """
    classes, code = np.unique(y, return_inverse=True)
    blocks, group = np.unique(groups, return_inverse=True)
    # Windows of each class in each group.
    counts = np.zeros((len(blocks), len(classes)), np.int64)
    np.add.at(counts, (group, code), 1)
    total = counts.sum(axis=0)
    wanted = share * len(y)
    random = np.random.default_rng(np.random.SeedSequence([seed, 0x5A]))
    best: tuple[float, Numbers] | None = None
    for _ in range(_ORDERS):
        order = random.permutation(len(blocks))
        sizes = np.cumsum(counts[order].sum(axis=1))
        taken = order[: 1 + int(np.argmin(np.abs(sizes - wanted)))]
        held = counts[taken].sum(axis=0)
        if (held == total).any():
            continue
        error = float((((held - share * total) / total) ** 2).sum())
        if best is None or error < best[0]:
            best = (error, taken)
    if best is None:
        rarest = int(np.argmin((counts > 0).sum(axis=0)))
        few = f"class {names[classes[rarest]]!r}" if len(names) else "a class"
        raise SplitError(
            f"{len(y)} windows in {len(blocks)} groups cannot be split into training and {share:.0%} validation: "
            f"training would lack {few}, because windows that overlap stay together",
            "Label more windows, further apart, or give another --validation-share (validation_share=)",
        )
    validation = np.isin(group, best[1])
    return np.flatnonzero(~validation), np.flatnonzero(validation)
