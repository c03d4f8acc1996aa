"""Tables with one row per window, made by a model in parallel batches: bounded memory, bit-identical rows on a CPU."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from moola.data.batches import WindowPlaces
from moola.data.dataset import FastWindowedDataset
from moola.data.device import DeviceWindowLoader
from moola.devices.threads import one_thread
from moola.files.cores import usable_cores
from moola.files.publishing import replacing_file

__all__ = ["TIME", "PredictionRows", "RowWindows", "write_parquet"]

TIME = pa.timestamp("ns", tz="UTC")
"""The Arrow type of all time columns."""

_CPU_ROWS = 64
"""Windows per forward pass on a CPU: the fastest number for one core."""

Answers: TypeAlias = Callable[[Tensor, Tensor | None], Tensor]
"""A model: maps windows `[B, K, D]` and their valid mask `[B, K]` (None if all bars are valid) to `[B, M]`."""


class RowWindows(NamedTuple):
    """The windows of some rows of the table."""

    symbols: list[str]
    places: WindowPlaces


class PredictionRows:
    """A model's predictions for each window of a dataset, in order.

    The columns are `symbol`, `window_end` (the open time of the window's last bar, UTC), and the model's. On a CPU, a
    row's bits depend neither on the other rows nor on the number of cores: each forward pass uses one thread and has
    the same size, and windows with invalid bars never share a pass with windows without.

    Args:
        dataset: The windows.
        columns: Names and types of the model's columns.
        answers: The model, in evaluation mode.
        values: Makes the model's columns from its output for some rows, `[n, M]`, and the windows of these rows.
        batch_size: Windows fetched at a time. Memory is bounded by a few batches.
        device: The model's device.
    """

    def __init__(
        self,
        dataset: FastWindowedDataset,
        columns: Iterable[tuple[str, pa.DataType]],
        answers: Answers,
        values: Callable[[NDArray[np.float32], RowWindows], Sequence[pa.Array]],
        *,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self.dataset = dataset
        self.schema = pa.schema([("symbol", pa.string()), ("window_end", TIME), *columns])
        self._answers, self._values = answers, values
        self._device = device
        self._loader = DeviceWindowLoader(dataset, batch_size, device=device)
        self._rows = _CPU_ROWS if device.type == "cpu" else batch_size

    def batches(self, progress: Callable[[int, int], None]) -> Iterator[pa.Table]:
        """Yields the table in batches; calls `progress` with the number of rows so far and of all rows."""
        # One thread keeps a GPU busy; more threads would only use more of its memory.
        threads = usable_cores() if self._device.type == "cpu" else 1
        first = done = 0
        with ExitStack() as stack:
            stack.enter_context(one_thread())
            executor = stack.enter_context(ThreadPoolExecutor(threads, thread_name_prefix="moola-rows"))
            ahead: deque[Future[pa.Table]] = deque()
            stack.callback(lambda: [future.cancel() for future in ahead])

            def finished() -> pa.Table:
                nonlocal done
                table = ahead.popleft().result()
                done += len(table)
                progress(done, len(self.dataset))
                return table

            for x, _, valid in self._loader:
                ahead.append(executor.submit(self._table, first, x, valid))
                first += len(x)
                if len(ahead) > threads:
                    yield finished()
            while ahead:
                yield finished()

    def _table(self, first: int, x: Tensor, valid: Tensor) -> pa.Table:
        numbers = np.arange(first, first + len(x))
        places = self.dataset.places(numbers)
        windows = RowWindows(self.dataset.symbols_of(places), places)
        columns = self._values(self._answered(x, valid), windows)
        where = [pa.array(windows.symbols, pa.string()), times(places.last_timestamp)]
        return pa.table([*where, *columns], schema=self.schema)

    @torch.no_grad()
    def _answered(self, x: Tensor, valid: Tensor) -> NDArray[np.float32]:
        """The model's output, `[B, M]`."""
        whole = valid.all(dim=1)
        pieces, order = [], []
        for masked, rows in ((False, whole.nonzero()[:, 0]), (True, (~whole).nonzero()[:, 0])):
            for some in torch.split(rows, self._rows) if len(rows) else ():
                # Padded with copies of its first window: a pass of another size may add in another order.
                padded = torch.cat([some, some[:1].expand(self._rows - len(some))])
                given = self._answers(x[padded], valid[padded] if masked else None)
                pieces.append(given[: len(some)])
                order.append(some)
        answered = torch.empty_like(torch.cat(pieces))
        answered[torch.cat(order)] = torch.cat(pieces)
        return answered.cpu().numpy()


def write_parquet(
    table: PredictionRows, output: str | os.PathLike[str], progress: Callable[[int, int], None]
) -> Path:
    """Writes the table to a Parquet file, which replaces an existing one once it is complete."""
    with replacing_file(output) as staged, pq.ParquetWriter(staged, table.schema) as writer:
        for batch in table.batches(progress):
            writer.write_table(batch)
    return Path(output)


def times(nanoseconds: NDArray[np.int64], there: NDArray[np.bool_] | None = None) -> pa.Array:
    """UTC nanoseconds as a time column; null where `there` is False."""
    numbers = pa.array(nanoseconds, mask=None if there is None else ~there)
    return numbers.cast(pa.timestamp("ns")).cast(TIME)
