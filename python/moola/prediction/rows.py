"""Tables with one row per window, made by a model in parallel batches, with bounded memory and the same bits always."""

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
"""How times are written."""

_CPU_ROWS = 64
"""Windows per forward pass on a CPU: the number that one core is fastest with."""

Answers: TypeAlias = Callable[[Tensor, Tensor | None], Tensor]
"""A model: windows `[B, K, D]` and which bars are valid, `[B, K]`, or None where all are, to `[B, M]`."""


class RowWindows(NamedTuple):
    """The windows of some rows."""

    symbols: list[str]
    places: WindowPlaces


class PredictionRows:
    """A model's predictions for each window of a dataset, in order.

    The columns are `symbol`, `window_end` (the open time of the window's last bar, UTC), and the model's. A row has the
    same bits whatever stands in other rows, and however many cores there are: of a CPU, each pass through the model
    is of one thread and of one size, and windows with hidden bars pass apart from those without.

    Args:
        dataset: The windows.
        columns: The model's columns: names and types.
        answers: The model, in evaluation mode.
        values: Makes the columns of what the model gave for some rows, `[n, M]`, and of their windows.
        batch_size: Windows fetched at a time. Memory is bounded by a few times as many.
        device: Where the model is.
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
        """The table, a batch at a time; `progress` is called with the rows so far and all there will be."""
        # One thread keeps a GPU busy, and more threads would only hold more of its memory.
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
        """`[B, M]`."""
        whole = valid.all(dim=1)
        pieces, order = [], []
        for masked, rows in ((False, whole.nonzero()[:, 0]), (True, (~whole).nonzero()[:, 0])):
            for some in torch.split(rows, self._rows) if len(rows) else ():
                # Padded with its first window: a pass of another size would add in another order.
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
    """UTC nanoseconds as times; null where they are not `there`."""
    numbers = pa.array(nanoseconds, mask=None if there is None else ~there)
    return numbers.cast(pa.timestamp("ns")).cast(TIME)
