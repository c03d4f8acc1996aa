"""Fits side by side, on whatever backend of joblib is in force."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from joblib import Parallel

__all__ = ["in_order"]


def in_order(tasks: Iterable[Any], n_jobs: int | None) -> Iterator[Any]:
    """What tasks give, in their order, each as soon as it and those before it are done.

    Backends that cannot hand on results one by one, such as joblib's `multiprocessing`, give all once all are done.

    Args:
        tasks: Made by `joblib.delayed`.
        n_jobs: Tasks at a time, as joblib understands it.
    """
    try:
        parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    except ValueError:
        # The backend cannot. Whatever else is wrong is said again.
        parallel = Parallel(n_jobs=n_jobs)
    return iter(parallel(tasks))
