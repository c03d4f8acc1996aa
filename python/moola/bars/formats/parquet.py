"""Reads bars from Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from moola.bars.formats.files import FileInput
from moola.bars.formats.inputs import is_text

__all__ = ["ParquetInput"]


class ParquetInput(FileInput):
    def prepare(self) -> None:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as file:
            if file.metadata.num_rows == 0:
                raise self.refusal(f"holds no {self.contents}", "Leave it out, or check how it was made")
            self.take_schema(file.schema_arrow)

    def batches(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        import pyarrow.parquet as pq

        types = cast("list[Any]", self.types)
        wanted = [self.names[column] for column in columns]
        # A column of few names and many rows costs little when it is decoded as a dictionary.
        repeated = [self.names[column] for column in names if is_text(types[column])]
        # Buffered and not fetched ahead, so that the columns of a row group are not held whole.
        buffering = {"buffer_size": 1 << 20, "pre_buffer": False}
        with pq.ParquetFile(self.path, read_dictionary=repeated, **buffering) as file:
            for raw in file.iter_batches(self.batch_rows, columns=wanted):
                yield raw if raw.schema.names == wanted else raw.select(wanted)
