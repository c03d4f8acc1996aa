"""JSON: one text for one value, read strictly; JSON of earlier versions is still read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from moola.files.json import as_json, dump_json, json_line, parse_json, replace_json, write_json
from moola.runs.directory import read_metrics, read_record, write_metrics, write_record


def test_json_is_canonical():
    value = {
        "name": "späße\n",
        "empty": [{}, []],
        "numbers": [1, -2.5, 1e300, 0.1],
        "segments": [{"symbol": "A", "rows": [1, 2]}, {"symbol": "B", "rows": []}],
        "deep": {"a": {"b": {"c": None}}, "t": True},
    }
    data = dump_json(value)
    assert parse_json(data, canonical=True) == value
    assert (
        data.decode()
        == """{
 "name": "späße\\n",
 "empty": [
  {},
  []
 ],
 "numbers": [
  1,
  -2.5,
  1e+300,
  0.1
 ],
 "segments": [
  {"symbol": "A", "rows": [1, 2]},
  {"symbol": "B", "rows": []}
 ],
 "deep": {
  "a": {"b": {"c": null}},
  "t": true
 }
}
"""
    )
    for value in (float("nan"), [float("inf")], {"a": {"b": [float("-inf")]}}):
        with pytest.raises(ValueError, match="JSON compliant"):
            dump_json(value)
    with pytest.raises(TypeError):
        dump_json({"a": np.float32(1)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b"{} {}", "Extra data"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' occurs twice"),
        (b'[{"x": {"a": 1, "a": 1}}]', "'a' occurs twice"),
        (b"[NaN]", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"\xff", "utf-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_text_that_is_not_json_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        parse_json(data)


@pytest.mark.parametrize("data", [b"{}", b"{ }\n", b"{}\r\n", b'{"a": 1}\n', b"[1.0e2]\n", b'"\\u00e4"\n'])
def test_non_canonical_spellings_are_detected(data):
    parse_json(data)
    with pytest.raises(ValueError, match="not written as moola writes it"):
        parse_json(data, canonical=True)


def test_json_is_written_once(tmp_path):
    assert write_json(tmp_path / "x.json", {"a": 1}) == (tmp_path / "x.json").stat().st_size
    with pytest.raises(FileExistsError):
        write_json(tmp_path / "x.json", {})


def test_a_file_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "x.json"
    replace_json(path, {"a": 1})
    replace_json(path, {"a": [1, 2]})
    assert path.read_bytes() == dump_json({"a": [1, 2]})
    with pytest.raises(ValueError, match="JSON compliant"):
        replace_json(path, {"a": float("nan")})
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_values_become_their_json_form():
    assert as_json({"a": (1, "ä"), "b": {2: None}}) == {"a": [1, "ä"], "b": {"2": None}}
    assert json_line({"a": (1, "ä")}) == '{"a": [1, "ä"]}'


def test_records_of_earlier_versions_are_read(tmp_path: Path):
    """Version 0.1 wrote the records of runs indented by one, and their logs in ASCII."""
    record = {"name": "späße", "deep": {"a": {"b": {"c": [1, 2.5, None]}}}, "none": [], "empty": {}}
    (tmp_path / "old.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_record(tmp_path / "new.json", record)
    assert read_record(tmp_path / "old.json") == read_record(tmp_path / "new.json") == record
    lines = [{"kind": "step", "name": "späße", "loss": 0.1}, {"kind": "epoch"}]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert read_metrics(tmp_path, "step") == lines[:1]
    write_metrics(tmp_path, lines)
    assert read_metrics(tmp_path, "step") == lines[:1]
