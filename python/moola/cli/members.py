"""The members that the arguments of a command name: their kinds, windows, encoders and settings."""

from __future__ import annotations

import json as json_module
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from moola.errors import ConfigError

if TYPE_CHECKING:
    from moola.labels.windows import LabelledWindows
    from moola.validation.records import CrossValidation

__all__ = ["Asked", "rebuilt_members"]


class Asked(NamedTuple):
    """The windows and members that a command was given."""

    windows: LabelledWindows
    other_windows: dict[str, LabelledWindows]
    seen: Any
    record: dict[str, Any]
    """For each member's name, what is needed to make it, as JSON."""
    notes: list[str]
    """Notes about encoders, shown before the fits and recorded after them."""

    @classmethod
    def of(
        cls,
        labels: str,
        members: Sequence[str],
        settings: Sequence[str] | None,
        encoders: Sequence[str] | None,
        store: str | None,
        seed: int,
        device: str,
    ) -> Asked:
        import numpy as np

        from moola.estimators.kinds import KINDS, kind_named
        from moola.labels import LabelledWindows, together

        windows = LabelledWindows.load(labels)
        other: dict[str, LabelledWindows] = {}
        kinds = [kind_named(member.partition("=")[0]) for member in members]
        parameters = _parameters(settings or (), kinds)
        record: dict[str, Any] = {}
        for member, kind in zip(members, kinds, strict=True):
            _, equals, path = member.partition("=")
            name = f"{kind} ({Path(path).stem})" if equals else kind
            if name in record:
                raise ConfigError("member", f"{name} is given twice; give each once")
            if equals:
                other[name] = LabelledWindows.load(path)
            known = KINDS[kind]().get_params(deep=False) if kind in KINDS else {}
            given = {
                "seed": seed,
                "device": device,
                "kept_columns": kept_columns_of(other.get(name, windows)),
            }
            # Only the parameters that this kind has: a regression has none of them.
            own = {key: value for key, value in given.items() if key in known}
            record[name] = {
                "kind": kind,
                # Absolute, because `evaluate` may run in another directory.
                "labels": os.path.abspath(path) if path else None,
                "encoder": None,
                "parameters": own | parameters.get(kind, {}),
            }
        made, _ = rebuilt_members(record, with_windows=False)
        seen, notes = None, list[str]()
        if encoders:
            from moola.validation import seen_windows
            from moola.validation.encoders import assign_encoders

            of_kind = {name: one["kind"] for name, one in record.items()}
            chosen, notes = assign_encoders(encoders, made, of_kind)
            for name, run in chosen.items():
                record[name]["encoder"] = os.path.abspath(run)
            known = together(windows, other)
            runs = dict.fromkeys(chosen.values())
            seen = np.any([seen_windows(run, known, store, say=notes.append) for run in runs], axis=0)
            notes = list(dict.fromkeys(notes))
        return cls(windows, other, seen, record, notes)

    def estimators(self) -> dict[str, Any]:
        return rebuilt_members(self.record, with_windows=False)[0]

    def tell(self, json: bool) -> None:
        """Prints the notes. Called before the fits, which may take hours."""
        for note in () if json else self.notes:
            print(note, file=sys.stderr)

    def recorded(self, found: CrossValidation) -> CrossValidation:
        """The result, with its members' records and notes added to its settings."""
        notes = [*self.notes, *found.settings["notes"]]
        return replace(found, settings=found.settings | {"members": self.record, "notes": notes})


def kept_columns_of(windows: LabelledWindows) -> int:
    from moola.models.weights import FeatureIdentity

    return len(FeatureIdentity.of_windows(windows).extra)


def rebuilt_members(
    record: Mapping[str, Any], with_windows: bool = True
) -> tuple[dict[str, Any], dict[str, LabelledWindows]]:
    """Estimators from their records, and the windows of members that have their own.

    With `with_windows=False`: only the recorded members, and no windows. Otherwise each member with an encoder is
    also there from scratch.
    """
    from moola.estimators import make_member
    from moola.labels import LabelledWindows
    from moola.validation.cross_validation import with_scratch

    members = {
        name: make_member(one["kind"], encoder=one["encoder"], **one["parameters"])
        for name, one in record.items()
    }
    if not with_windows:
        return members, {}
    other = {
        name: LabelledWindows.load(one["labels"]) for name, one in record.items() if one["labels"] is not None
    }
    return with_scratch(members, other)


def _parameters(settings: Sequence[str], kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parses each `KIND.KEY=VALUE`: the values by kind and key."""
    from moola.estimators.kinds import kind_named

    parameters: dict[str, dict[str, Any]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        given, dot, key = name.partition(".")
        kind = kind_named(given)
        if not (equals and dot and key):
            raise ConfigError("set", f"{setting!r} is not KIND.KEY=VALUE, such as jade_compact.epochs=25")
        if kind not in kinds:
            raise ConfigError("set", f"{setting!r} names no member; give one of {', '.join(kinds)}")
        if key == "encoder":
            raise ConfigError("set", f"{setting!r} is given as --encoder {kind}={text or 'RUN'}")
        try:
            value = json_module.loads(text)
        except ValueError:
            value = text
        parameters.setdefault(kind, {})[key] = value
    return parameters
