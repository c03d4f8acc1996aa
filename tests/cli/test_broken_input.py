"""No traceback and no foreign message reaches a user of the command line, whatever the file."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from bar_files import table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

import moola
from moola.cli import app
from moola.errors import MoolaError

FOREIGN = (
    "Traceback",
    "pyarrow",
    "ArrowInvalid",
    "KeyError",
    "IndexError",
    "object has no attribute",
    "UnicodeDecode",
)


def whole(suffix: str) -> bytes:
    """A sound file of 200 bars."""
    data, buffer = table(200, symbol=["ES"] * 200), io.BytesIO()
    if suffix == "parquet":
        pq.write_table(data, buffer)
    elif suffix == "arrow":
        with pa.ipc.new_file(buffer, data.schema) as writer:
            writer.write_table(data)
    else:
        pyarrow.csv.write_csv(data, buffer)
    content = buffer.getvalue()
    if suffix == "csv.gz":
        return gzip.compress(content)
    if suffix == "zip":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.csv", content)
        return packed.getvalue()
    if suffix == "utf16.csv":
        return content.decode().encode("utf-16")
    return content


WHOLE = {suffix: whole(suffix) for suffix in ("parquet", "csv", "csv.gz", "zip", "utf16.csv")}

edits = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(b"")),
    st.tuples(st.just("replace"), st.floats(0, 1), st.binary(min_size=1, max_size=6)),
    st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=6)),
    st.tuples(
        st.just("insert"),
        st.floats(0, 1),
        st.sampled_from(
            [b'"', b",", b";", b"\n", b"\r", b"\n\n", b"\xef\xbb\xbf", b"\0", b"nan", b"-", b"1e400"]
        ),
    ),
    st.tuples(st.just("delete"), st.floats(0, 1), st.binary(min_size=1, max_size=20)),
)


def edited(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for how, where, what in changes:
        at = int(where * len(content))
        if how == "cut":
            content = content[:at]
        elif how == "insert":
            content = content[:at] + what + content[at:]
        else:
            content = content[:at] + (what if how == "replace" else b"") + content[at + len(what) :]
    return content


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(edits, min_size=1, max_size=4),
    options=st.lists(
        st.sampled_from(
            [
                "--tz=UTC",
                "--drop-bad-bars",
                "--sort",
                "--dedup=identical",
                "--stamp=close",
                "--decimal=,",
            ]
        ),
        unique=True,
        max_size=3,
    ),
)
def test_a_broken_file_is_read_or_refused_in_moolas_words(
    tmp_path: Path, suffix: str, changes: list[tuple[str, float, bytes]], options: list[str]
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(edited(WHOLE[suffix], changes))
    output = tmp_path / "store"
    result = CliRunner().invoke(
        app,
        [
            "build-features",
            str(path),
            "--output",
            str(output),
            "--overwrite",
            "--window-length",
            "9",
            *options,
        ],
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (0, 1, 2)
    if result.exit_code:
        assert result.stderr.count("error: ") >= 1
        # The end of a library's sentence may stand in parentheses after ours.
        said = result.stderr.replace(str(path), "")
        assert not any(word in said for word in FOREIGN), result.stderr


values = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    *(st.dates(), st.datetimes(), st.binary(max_size=3)),
)
NAMES = ("timestamp", "open", "high", "low", "close", "symbol", "date", "time", "", "0", "Open")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.one_of(st.lists(st.sampled_from(NAMES), max_size=8), st.permutations(NAMES[:5])),
    data=st.data(),
)
def test_an_odd_frame_is_read_or_refused_in_moolas_words(
    tmp_path: Path, names: list[str], data: st.DataObject
) -> None:
    rows = data.draw(st.integers(0, 4))
    columns = [data.draw(st.lists(values, min_size=rows, max_size=rows)) for _ in names]
    frame = pd.DataFrame({i: pd.Series(column, dtype=object) for i, column in enumerate(columns)})
    frame.columns = pd.Index(names)
    with pytest.raises((MoolaError, TypeError)) as caught:
        moola.build_features(frame, tmp_path / "store", tz="UTC")
    assert not any(word in str(caught.value) for word in FOREIGN), caught.value


def import_labels(path: Path, store: Path, content: bytes) -> Result:
    path.write_bytes(content)
    words = [
        "--labels",
        path,
        "--feature-dir",
        store,
        "--output",
        path.with_suffix(".safetensors"),
        "--stamp",
        "open",
    ]
    return CliRunner().invoke(app, ["import-labels", *map(str, words)])


@pytest.fixture(scope="module")
def labels(store: Path) -> bytes:
    """Sound labels of the store, as CSV."""
    with moola.FeatureStore.open(store) as opened:
        ends = np.datetime_as_string(opened.timestamps[300:1300:100].astype("M8[ns]").astype("M8[s]"))
    rows = [f"{end}Z,{'up' if i % 2 else 'down'},0.5" for i, end in enumerate(ends)]
    return "\n".join(["window_end,class,weight", *rows]).encode()


def test_sound_labels_are_imported(tmp_path: Path, store: Path, labels: bytes) -> None:
    assert import_labels(tmp_path / "labels.csv", store, labels).exit_code == 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(edits, min_size=1, max_size=4), packed=st.booleans())
def test_broken_labels_are_read_or_refused_in_moolas_words(
    tmp_path: Path, store: Path, labels: bytes, changes: list[tuple[str, float, bytes]], packed: bool
) -> None:
    content = edited(labels, changes)
    path = tmp_path / "labels.csv"
    result = import_labels(path, store, gzip.compress(content) if packed else content)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert not any(word in result.stderr.replace(str(path), "") for word in FOREIGN), result.stderr


def test_an_error_in_json_is_one_object(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"t,o,h,l,c\n1,2\n")
    command = ["build-features", str(tmp_path / "a.csv"), "--output", str(tmp_path / "s"), "--json"]
    result = CliRunner().invoke(app, command)
    assert json.loads(result.stdout)["error"] == "InputError"
    assert np.isin(result.exit_code, [1, 2])
