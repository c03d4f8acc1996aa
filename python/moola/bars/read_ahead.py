"""Decodes batches in a thread, a few ahead of who takes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import TypeVar

__all__ = ["read_ahead"]

_Item = TypeVar("_Item")


def read_ahead(decode: Callable[[Callable[[], bool]], Generator[_Item]], depth: int = 2) -> Generator[_Item]:
    """What `decode` yields, from a thread that is `depth` batches ahead and ends with this generator."""
    ready: SimpleQueue[_Item | BaseException | None] = SimpleQueue()
    free = threading.Semaphore(depth)
    stop = threading.Event()

    def work() -> None:
        batches = decode(stop.is_set)
        try:
            while True:
                free.acquire()
                if stop.is_set():
                    break
                batch = next(batches, None)
                ready.put(batch)
                if batch is None:
                    break
        except BaseException as error:
            ready.put(error)
        finally:
            batches.close()

    thread = threading.Thread(target=work, name="moola-bars", daemon=True)
    thread.start()
    try:
        while (batch := ready.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            free.release()
            yield batch
    finally:
        stop.set()
        free.release()
        thread.join()
