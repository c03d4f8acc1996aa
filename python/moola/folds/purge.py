"""The purge: which training windows share bars with test windows, or begin within the embargo after them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moola.settings.arrays import Numbers

__all__ = ["purged"]


def purged(
    begin: Numbers,
    end: Numbers,
    train: NDArray[np.integer],
    test: NDArray[np.integer],
    *,
    embargoed: Numbers | None = None,
) -> NDArray[np.bool_]:
    """Marks the training windows that must be dropped.

    A training window is dropped if, for some test window, `begin[test] <= end[train]` and
    `end[test] >= embargoed[train]`.

    Args:
        begin: `[n]`, the bar number or time at which each window begins.
        end: `[n]`, the bar number or time at which each window ends, inclusive, with the bars that its label depends
            on.
        train: Numbers of training windows.
        test: Numbers of test windows.
        embargoed: `[n]`, `begin` minus the embargo; `begin` if not given.

    Returns:
        `[len(train)]`: True for each training window to drop.

    Source: M. López de Prado, *Advances in Financial Machine Learning*, Wiley 2018, section 7.4 (purging and embargo).
    """
    if not len(test):
        return np.zeros(len(train), bool)
    reach = begin if embargoed is None else embargoed
    # Of the test windows that begin before a training window ends, the latest end decides whether any reaches it.
    by_begin = test[np.argsort(begin[test], kind="stable")]
    latest_end = np.maximum.accumulate(end[by_begin])
    earlier = np.searchsorted(begin[by_begin], end[train], side="right")
    marked: NDArray[np.bool_] = (earlier > 0) & (latest_end[earlier - 1] >= reach[train])
    return marked
