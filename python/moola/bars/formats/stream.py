"""Reads bars from Arrow objects in memory: tables, batches, streams, data frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from moola.bars.formats.inputs import Input, brief, not_empty

__all__ = ["StreamInput", "is_table"]


def is_table(value: object) -> bool:
    """Whether this is a table in memory: anything with ``__arrow_c_stream__``, or a data frame of pandas before 2.2."""
    return hasattr(value, "__arrow_c_stream__") or _is_old_frame(value)


def _is_old_frame(value: object) -> bool:
    kind = type(value)
    return (
        kind.__module__.partition(".")[0] == "pandas"
        and kind.__name__ == "DataFrame"
        and not hasattr(value, "__arrow_c_stream__")
    )


class StreamInput(Input):
    """An object with ``__arrow_c_stream__``."""

    def __init__(self, bars: object, contents: str = "bars") -> None:
        import pyarrow as pa

        kind = type(bars)
        super().__init__(f"<{kind.__module__.partition('.')[0]}.{kind.__name__}>", contents)
        self._bars = bars
        # Tables can be read again. Readers cannot, and a query may give other rows.
        self.rereadable = kind.__module__.partition(".")[0] in (
            "pandas",
            "polars",
            "pyarrow",
        ) and not isinstance(bars, pa.RecordBatchReader)
        self._reader: Any = None
        self._held: list[Any] = []
        self._spooled: Any = None
        self.take_schema(self._start().schema)

    def _start(self) -> Any:
        if self._reader is None:
            import pyarrow as pa

            try:
                bars = pa.Table.from_pandas(self._bars) if _is_old_frame(self._bars) else self._bars
                self._reader = pa.RecordBatchReader.from_stream(bars)
            except ValueError as error:
                if "uplicate column name" not in str(error):
                    raise self._not_a_table(error) from error
                names = [str(name) for name in self._bars.columns]  # type: ignore[attr-defined]
                twice = next(name for name in names if names.count(name) > 1)
                raise self.refusal(
                    f"has {names.count(twice)} columns called {twice!r}",
                    "Drop or rename all but one: frame = frame.loc[:, ~frame.columns.duplicated()] keeps the first",
                ) from error
            except Exception as error:
                # Whatever a frame of foreign objects raises while it is converted.
                raise self._not_a_table(error) from error
        return self._reader

    def _not_a_table(self, error: Exception) -> Exception:
        return self.refusal(
            f"is not a table of {self.contents} ({brief(error)})",
            "Hand over a table with columns, not a single one",
        )

    def read(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        import pyarrow as pa

        try:
            if self._spooled is not None:
                self._spooled.seek(0)
                kept = pa.ipc.open_stream(self._spooled)
                at = [
                    kept.schema.metadata[b"columns"].split(b",").index(str(column).encode())
                    for column in columns
                ]
                for raw in kept:
                    yield raw.select(at)
                return
            reader = self._start()
            while self._held:
                yield self._held.pop(0).select(list(columns))
            for raw in reader:
                yield raw.select(list(columns))
            self._reader = None
        except pa.ArrowException as error:
            raise self.refusal(f"cannot be read: {brief(error)}", "Check what produces it") from error

    def first_texts(self, column: int) -> list[str]:
        reader = self._start()
        for raw in self._held:
            if texts := not_empty(raw.column(column)):
                return texts
        for raw in reader:
            self._held.append(raw)
            if texts := not_empty(raw.column(column)):
                return texts
        return []

    def spool(self, columns: Sequence[int]) -> None:
        """Writes the columns to a temporary file. It has no name, so it ends with the process."""
        if self.rereadable:
            return
        import tempfile

        import pyarrow as pa

        schema = pa.schema([self._start().schema.field(i) for i in columns])
        schema = schema.with_metadata({"columns": ",".join(map(str, columns))})
        with self._room_for_a_copy():
            spooled = tempfile.TemporaryFile(prefix="moola-")  # noqa: SIM115 -- it outlives this method
        try:
            writer = pa.ipc.new_stream(spooled, schema)
            for raw in self.read(columns):
                if self.stopped():
                    break
                with self._room_for_a_copy():
                    writer.write_batch(raw.replace_schema_metadata(schema.metadata))
            with self._room_for_a_copy():
                writer.close()
                spooled.flush()
        except BaseException:
            # Writing what is still buffered may fail for lack of room, too.
            with suppress(OSError):
                spooled.close()
            raise
        self._spooled = spooled

    @contextmanager
    def _room_for_a_copy(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.refusal(
                f"is read twice because of its dates, and no copy can be kept meanwhile ({brief(error)})",
                "Set TMPDIR to a directory with room, or save the bars to a file and give that",
            ) from error

    def close(self) -> None:
        self._held.clear()
        self._reader = None
        if self._spooled is not None:
            self._spooled.close()
            self._spooled = None
