"""The results of a cross-validation, in memory and in a directory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moola.errors import ConfigError, LeakError, RunError
from moola.evaluation.calibration import log_probabilities
from moola.evaluation.leaks import FittedOn, assert_out_of_fold
from moola.evaluation.outcomes import Floats, Predictions, Truth
from moola.files.publishing import replacing_file
from moola.folds.dealing import TrainTest
from moola.labels.windows import LabelledWindows
from moola.runs.directory import (
    METRICS,
    new_directory,
    read_metrics,
    read_record,
    write_metrics,
    write_record,
)
from moola.settings.arrays import Numbers

__all__ = ["LABELS", "PREDICTIONS", "RECORD", "CrossValidation", "OutOfFold", "beside", "truth_of"]

LABELS, PREDICTIONS, RECORD = "labels.safetensors", "predictions.parquet", "cross_validation.json"
FORMAT_VERSION = 1

Splits: TypeAlias = tuple[tuple[TrainTest, ...], ...]


def truth_of(windows: LabelledWindows, seen: NDArray[np.bool_] | None = None) -> Truth:
    """The truth that predictions are scored against, from labelled windows. If none has a span, spans are not scored.

    `seen`, `[n]` bool, marks windows that an encoder has seen in pre-training.
    """
    return Truth(
        np.array(windows.classes)[windows.y],
        classes=np.array(windows.classes),
        spans=windows.spans if (windows.spans[:, 0] >= 0).any() else None,
        groups=windows.groups,
        seen=seen,
    )


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """One member's out-of-fold predictions in one repeat: each by a model that has not seen the window.

    Raises `LeakError` if a model has seen a window that it predicts, and `ConfigError` if folds are missing.
    """

    predictions: Predictions
    fitted_on: tuple[FittedOn, ...]
    """The numbers of the windows that each fold's model was fitted on."""
    windows: Numbers | None = None
    """`[m]`: the numbers of the predicted windows; None if all were predicted."""
    spread: Floats | None = None
    """`[m]`: the standard deviation of the most probable class's probability over draws of dropout."""
    seconds: float = field(default=0.0, compare=False)
    """The total time of its fits, each on one thread."""
    monitoring: tuple[dict[str, Any], ...] = field(default=(), compare=False)
    """By fold, the record of a network; see :func:`moola.validation.monitoring.monitored`."""

    def __post_init__(self) -> None:
        self.check()

    def check(self, outer_test: Any = ()) -> None:
        """Raises `LeakError` if a model was fitted on a window that it predicts, or on a window of `outer_test`."""
        if self.predictions.folds is None:
            raise ConfigError("predictions", "have no folds, so it is unknown whether they are out of fold")
        assert_out_of_fold(
            self.predictions.folds, self.fitted_on, outer_test=outer_test, windows=self.windows
        )

    @property
    def logits(self) -> Floats | None:
        """`[m, C]`: the logarithms of the probabilities: logits, up to a constant per window. None without any."""
        p = self.predictions.probabilities
        return None if p is None else log_probabilities(p)


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Out-of-fold predictions of several members for the same windows, in the same folds."""

    windows: LabelledWindows
    truth: Truth
    splits: Splits
    """By repeat, (train, test) of each fold, as numbers of windows."""
    members: dict[str, tuple[OutOfFold, ...]]
    """By name, the predictions of each repeat; an ensemble of all repeats has one."""
    settings: dict[str, Any]
    """Its settings and notes, as plain values for JSON."""

    def __post_init__(self) -> None:
        for name, several in self.members.items():
            for one in several:
                if one.windows is not None or len(one.predictions) != len(self.truth):
                    raise ConfigError(
                        "members", f"{name} has not predicted every window; give predictions of all"
                    )
                one.predictions.check_against(self.truth)

    def predictions(self, name: str) -> list[Predictions]:
        """A member's predictions, by repeat. Raises `ConfigError` for another name."""
        if name not in self.members:
            raise ConfigError("model", f"{name!r} is not a member; give one of {', '.join(self.members)}")
        return [one.predictions for one in self.members[name]]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes a directory: the labelled windows, the predictions as Parquet, and the rest as JSON.

        The records of networks are in `metrics.jsonl`, one line per fold, as in a fine-tuned run.

        Raises `RunError` if the directory exists and is not empty.
        """
        directory = new_directory(path)
        self.windows.save(directory / LABELS)
        self._write_predictions(directory / PREDICTIONS)
        record = {
            "format_version": FORMAT_VERSION,
            "settings": self.settings,
            "seen": np.flatnonzero(self.truth.seen).tolist(),
            "splits": [
                [{"train": train.tolist(), "test": test.tolist()} for train, test in repeat]
                for repeat in self.splits
            ],
            "members": {
                name: [
                    {"fitted_on": [fitted.record() for fitted in one.fitted_on], "seconds": one.seconds}
                    for one in several
                ]
                for name, several in self.members.items()
            },
        }
        lines = [
            {"kind": "fold", "model": name, "repeat": repeat} | line
            for name, several in self.members.items()
            for repeat, one in enumerate(several)
            for line in one.monitoring
        ]
        write_metrics(directory, lines)
        # Written last, because it makes the directory a cross-validation.
        write_record(directory / RECORD, record)
        return directory

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a directory of :meth:`save`, and checks again that no model saw the windows that it predicts.

        Raises `RunError` for any other directory and for a damaged one, `LeakError`, and `InputError` for the labels.
        """
        directory = Path(path)
        if not (directory / RECORD).exists():
            raise RunError(
                directory,
                f"is not a cross-validation: there is no {RECORD}",
                "Give the directory that moola cross-validate, ensemble or stack wrote",
            )
        record = read_record(directory / RECORD)
        if record.get("format_version") != FORMAT_VERSION:
            raise RunError(
                directory,
                f"is of format {record.get('format_version')}, not {FORMAT_VERSION}",
                "Make it again",
            )
        windows = LabelledWindows.load(directory / LABELS)
        try:
            seen = np.zeros(len(windows), np.bool_)
            seen[record["seen"]] = True
            truth = truth_of(windows, seen)
            said = _read_predictions(directory / PREDICTIONS, truth)
            monitoring = _read_monitoring(directory)
            return cls(
                windows,
                truth,
                tuple(
                    tuple((np.array(s["train"], np.int64), np.array(s["test"], np.int64)) for s in repeat)
                    for repeat in record["splits"]
                ),
                {
                    name: tuple(
                        OutOfFold(
                            said[name, number][0],
                            tuple(map(FittedOn.from_record, one["fitted_on"])),
                            spread=said[name, number][1],
                            seconds=one["seconds"],
                            monitoring=tuple(monitoring.get((name, number), ())),
                        )
                        for number, one in enumerate(several)
                    )
                    for name, several in record["members"].items()
                },
                record["settings"],
            )
        except LeakError:
            raise
        except (KeyError, TypeError, ValueError, IndexError, OSError) as error:
            raise RunError(
                directory, f"is damaged: {error}", "Restore it from a copy, or make it again"
            ) from None

    def _write_predictions(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        n, windows = len(self.truth), self.windows
        tables = []
        for name, several in self.members.items():
            for repeat, one in enumerate(several):
                said = one.predictions
                columns: dict[str, Any] = {
                    "model": [name] * n,
                    "repeat": np.full(n, repeat, np.int32),
                    "window": np.arange(n),
                    "fold": said.folds,
                    "symbol": windows.symbols.tolist(),
                    "window_end": None
                    if windows.times is None
                    else pa.array(windows.times, pa.timestamp("ns", tz="UTC")),
                    "class": np.array(windows.classes)[windows.y].tolist(),
                }
                p = said.probabilities
                for code, label in enumerate(windows.classes):
                    columns[f"p_{label}"] = None if p is None else p[:, code]
                for end, column in enumerate(("first_bar", "last_bar")):
                    columns[column] = None if said.spans is None else said.spans[:, end]
                columns["dropout_spread"] = one.spread
                tables.append(
                    pa.table([_column(columns[f.name], f.type, n) for f in self._schema()], self._schema())
                )
        with replacing_file(path) as staged:
            pq.write_table(pa.concat_tables(tables), staged)

    def _schema(self) -> Any:
        import pyarrow as pa

        return pa.schema(
            [
                ("model", pa.string()),
                ("repeat", pa.int32()),
                ("window", pa.int64()),
                ("fold", pa.int64()),
                ("symbol", pa.string()),
                ("window_end", pa.timestamp("ns", tz="UTC")),
                ("class", pa.string()),
                *((f"p_{label}", pa.float64()) for label in self.windows.classes),
                ("first_bar", pa.int64()),
                ("last_bar", pa.int64()),
                ("dropout_spread", pa.float64()),
            ]
        )


def _column(values: Any, dtype: Any, n: int) -> Any:
    import pyarrow as pa

    return pa.nulls(n, dtype) if values is None else pa.array(values, dtype)


def _read_predictions(path: Path, truth: Truth) -> dict[tuple[str, int], tuple[Predictions, Floats | None]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path).to_pydict()
    n = len(truth)

    def values(column: str, rows: slice, dtype: Any) -> NDArray[Any] | None:
        given = table[column][rows]
        return None if given[0] is None else np.array(given, dtype)

    found = {}
    for at in range(0, len(table["model"]), n):
        rows = slice(at, at + n)
        if table["window"][rows] != list(range(n)):
            raise ValueError(f"{path.name} lacks windows")
        p = [values(f"p_{label}", rows, np.float64) for label in truth.classes]
        spans = [values(column, rows, np.int64) for column in ("first_bar", "last_bar")]
        said = Predictions(
            None if p[0] is None else np.stack(p, axis=1),  # type: ignore[arg-type]
            None if spans[0] is None else np.stack(spans, axis=1),  # type: ignore[arg-type]
            folds=table["fold"][rows],
        )
        found[table["model"][at], table["repeat"][at]] = said, values("dropout_spread", rows, np.float64)
    return found


def _read_monitoring(directory: Path) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """By member and repeat, the records of its networks, one per fold."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    if not (directory / METRICS).exists():
        # The earliest versions wrote no such file.
        return found
    for line in read_metrics(directory, "fold"):
        _, name, repeat = (line.pop(key) for key in ("kind", "model", "repeat"))
        found.setdefault((name, repeat), []).append(line)
    return found


def relabelled(windows: LabelledWindows, truth: Truth) -> LabelledWindows:
    """The same windows with the labels and spans of `truth`."""
    spans = windows.spans if truth.spans is None else truth.spans
    return replace(windows, y=truth.y, spans=spans)


def with_members(
    validation: CrossValidation, members: Mapping[str, Sequence[OutOfFold]], **settings: Any
) -> CrossValidation:
    """The same windows and folds, with other members."""
    return replace(
        validation,
        members={name: tuple(several) for name, several in members.items()},
        settings=validation.settings | settings,
    )


def beside(validation: CrossValidation, others: Mapping[str, CrossValidation]) -> CrossValidation:
    """A cross-validation with the members of others added, each named `NAME (KEY)` after its key in `others`.

    A window counts as seen if an encoder of any of them was pre-trained on its bars. The remaining windows are unseen
    by all of them.

    Raises `ConfigError` if the others have other labels or folds, because differences could then come from these; and
    if a name is already taken.
    """
    members, seen = dict(validation.members), validation.truth.seen
    for home, other in others.items():
        same = len(other.windows) == len(validation.windows) and all(
            np.array_equal(getattr(other.windows, name), getattr(validation.windows, name))
            for name in ("y", "spans", "symbols")
        )
        if not same or other.windows.classes != validation.windows.classes:
            raise ConfigError("against", f"{home} has other labels; cross-validate both on the same file")
        mine, theirs = (
            [[test.tolist() for _, test in repeat] for repeat in one.splits] for one in (validation, other)
        )
        if mine != theirs:
            raise ConfigError(
                "against",
                f"{home} has other folds; cross-validate both with the same --folds, --repeats and --seed, and members "
                "on windows of the same lengths",
            )
        theirs_by_name = {f"{name} ({home})": several for name, several in other.members.items()}
        if taken := sorted(theirs_by_name.keys() & members):
            raise ConfigError(
                "against",
                f"{home} has a model that would be named {taken[0]!r}, like an existing one; give its "
                "directory another name",
            )
        members |= theirs_by_name
        seen = seen | other.truth.seen
    return replace(with_members(validation, members), truth=truth_of(validation.windows, seen))
