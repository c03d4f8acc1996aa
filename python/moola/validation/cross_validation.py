"""Cross-validation of several members in the same folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from moola.errors import ConfigError
from moola.evaluation.fold_predictions import check_splits
from moola.folds.dealing import StorePath, TrainTest, check_purged, purged_folds
from moola.folds.few_labels import fitting_folds
from moola.labels.refusals import check_classes
from moola.labels.windows import LabelledWindows, together
from moola.settings.whole_numbers import whole_number
from moola.validation.encoders import check_encoders
from moola.validation.fits import Fit, Report, check_members, out_of_fold_of, run_fits, seeded
from moola.validation.records import CrossValidation, truth_of

__all__ = ["FROM_SCRATCH", "cross_validate", "repeated_folds", "with_scratch"]

FROM_SCRATCH = " from scratch"
"""The suffix that a member's name gets for the same member without its encoder."""


def cross_validate(
    windows: LabelledWindows,
    members: Mapping[str, Any],
    *,
    folds: int | None = None,
    repeats: int = 1,
    seed: int = 0,
    embargo: int = 0,
    store: StorePath | None = None,
    splits: Sequence[Sequence[TrainTest]] | None = None,
    other_windows: Mapping[str, LabelledWindows] | None = None,
    seen: NDArray[Any] | None = None,
    scratch: bool = True,
    n_jobs: int | None = None,
    report: Report | None = None,
) -> CrossValidation:
    """Predicts every window with each member, out of fold: by models that have not seen it.

    A member with a pre-trained encoder is accompanied by the same member from scratch. Repeat r has other folds, and
    adds r to the seed of each member that has one. The same arguments give the same results, for any `n_jobs`.

    Args:
        windows: Labelled windows.
        members: Unfitted estimators by name, such as :func:`moola.estimators.make_member` makes.
        folds: Number of folds. If not given, 5, or as many as the rarest class allows; a note says so.
        seed, embargo, store: As in :func:`moola.validation.purged_folds`.
        repeats: Number of repeats.
        splits: (train, test) of each fold, by repeat; replaces the folds that would be dealt.
        other_windows: By member's name, windows of the same samples with other features or of another length. Folds
            separate windows that share bars in the longest of them.
        seen: `[n]` bool, whether an encoder was pre-trained on bars of each window; see
            :func:`moola.validation.seen_windows`.
        scratch: False leaves out the same members from scratch.
        n_jobs: Fits at a time, as joblib interprets it; each uses one thread.
        report: Called with the number of fits done and of all fits.

    Raises what :func:`moola.validation.purged_folds` and the members raise, `LeakError` or `SharedBarsError` for
    splits that leak, `FeatureMismatchError` for an encoder with other features than its member's windows, and
    `ConfigError`.
    """
    check_classes(windows.y, windows.classes)
    other = dict(other_windows or {})
    if scratch:
        members, other = with_scratch(members, other)
    check_members(members, other)
    notes = check_encoders(members, windows, other, store)
    windows = together(windows, other)
    truth = truth_of(windows, seen)
    if splits is None:
        if folds is None:
            repeats = whole_number("repeats", repeats, 1)
            folds, lines = fitting_folds(windows, seed=seed, repeats=repeats, embargo=embargo, store=store)
            notes = [*notes, *lines]
        splits = repeated_folds(windows, folds, repeats, seed=seed, embargo=embargo, store=store)
    for repeat in splits:
        check_splits(repeat, truth)
        check_purged(windows, repeat, store)
    fits = [
        Fit(name, seeded(estimator, number), train, test)
        for name, estimator in members.items()
        for number, repeat in enumerate(splits)
        for train, test in repeat
    ]
    said = iter(run_fits(fits, truth, windows, other, n_jobs=n_jobs, report=report))
    found = {
        name: tuple(out_of_fold_of(repeat, [next(said) for _ in repeat]) for repeat in splits)
        for name in members
    }
    settings: dict[str, Any] = {
        "folds": len(splits[0]),
        "repeats": len(splits),
        "seed": seed,
        "embargo": embargo,
        "notes": notes,
    }
    return CrossValidation(windows, truth, tuple(map(tuple, splits)), found, settings)


def repeated_folds(
    windows: LabelledWindows, folds: int, repeats: int, *, seed: int, embargo: int, store: StorePath | None
) -> list[list[TrainTest]]:
    """The folds of each repeat."""
    return [
        purged_folds(windows, folds, seed=seed, repeat=repeat, embargo=embargo, store=store)
        for repeat in range(whole_number("repeats", repeats, 1))
    ]


def with_scratch(
    members: Mapping[str, Any], other_windows: Mapping[str, LabelledWindows] | None
) -> tuple[dict[str, Any], dict[str, LabelledWindows]]:
    """The members, with the same one from scratch added for each that has an encoder; and their own windows, by name.

    Raises `ConfigError` for a member without `get_params`.
    """
    from sklearn.base import clone

    all_members, other = dict(members), dict(other_windows or {})
    for name, member in members.items():
        if not hasattr(member, "get_params"):
            raise ConfigError("members", f"{name} is not a scikit-learn estimator; give one")
        scratch = f"{name}{FROM_SCRATCH}"
        if member.get_params(deep=False).get("encoder") is None or scratch in members:
            continue
        all_members[scratch] = clone(member).set_params(encoder=None)
        if name in other:
            other[scratch] = other[name]
    return all_members, other
