"""Errors passed between processes."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import joblib
import pytest
import torch
from torch.utils.data import DataLoader

import moola.errors
from moola.errors import LabelError, MoolaError, StoreWriteError


def errors() -> list[MoolaError]:
    kinds = [
        kind
        for _, kind in inspect.getmembers(moola.errors, inspect.isclass)
        if issubclass(kind, MoolaError) and kind.__module__ == "moola.errors"
    ]
    made = []
    for kind in kinds:
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
        values = {"counts": {"no_timestamp": 1}, "problems": [], "path": Path("/x"), "in_time": False}
        values |= {
            "known": [3, 5],
            "step": 7,
            "windows": [("ES", 0)],
            "suspects": 0,
            "run": None,
            "better_advice": {},
        }
        if kind is LabelError:
            values["counts"] = {"no_class": 1}
        values |= dict.fromkeys(("train_bars", "test_bars", "shared"), (1, 2)) | {
            "train": 1,
            "test": 2,
            "count": 3,
        }
        plain = [values.get(p.name, p.name) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        named = {
            p.name: values[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty
        }
        made.append(kind(*plain, **named) if plain or named else kind("what happened"))
    return [*made, StoreWriteError("/x", "the disk is full", "make room", errno=28)]


every_error = pytest.mark.parametrize("error", errors(), ids=lambda error: type(error).__name__)


@every_error
def test_an_error_is_pickled_with_its_facts(error: MoolaError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__
    assert copy.args == error.args
    assert getattr(copy, "errno", None) == getattr(error, "errno", None)


@every_error
def test_an_error_made_from_text_only_has_no_facts(error: MoolaError) -> None:
    copy = type(error)(str(error))
    assert str(copy) == str(error)
    assert copy.__dict__ == dict.fromkeys(error.__dict__)
    again = pickle.loads(pickle.dumps(copy))
    assert (type(again), str(again), again.__dict__) == (type(error), str(error), copy.__dict__)


class Failing(torch.utils.data.Dataset[int]):
    def __init__(self, error: MoolaError) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int) -> int:
        raise self.error


@pytest.mark.xdist_group("errors")
def test_dataloaders_and_joblib_pass_errors_on() -> None:
    for error in errors():
        # One process is enough to test how torch rebuilds a worker's exception.
        with pytest.raises(type(error), match=re.escape(str(error).splitlines()[0])):
            torch._utils.ExceptionWrapper((type(error), error, None)).reraise()
    with pytest.raises(moola.errors.ConfigError, match="length: too short") as met:
        next(iter(DataLoader(Failing(moola.errors.ConfigError("length", "too short")), num_workers=1)))
    assert met.value.name is None

    def fail(error: MoolaError) -> None:
        raise error

    for error in errors():
        with pytest.raises(type(error)) as raised:
            joblib.Parallel(2)(joblib.delayed(fail)(error) for _ in range(2))
        assert str(raised.value) == str(error)
        assert raised.value.__dict__ == error.__dict__
