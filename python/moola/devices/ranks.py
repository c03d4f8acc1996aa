"""Parallel fits on joblib's active backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from joblib import Parallel

__all__ = ["in_order"]


def in_order(tasks: Iterable[Any], n_jobs: int | None) -> Iterator[Any]:
    """Yields the results of tasks in order, each as soon as it and all earlier ones are done.

    Backends that cannot return results one by one, such as joblib's `multiprocessing`, return all of them at the end.

    Args:
        tasks: Tasks made by `joblib.delayed`.
        n_jobs: Tasks that run at a time, as in `joblib.Parallel`.
    """
    try:
        parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    except ValueError:
        # The backend does not support generators. The second call raises any other error again.
        parallel = Parallel(n_jobs=n_jobs)
    return iter(parallel(tasks))
