"""What 174 labels are worth: measures every claim about learning from few labels.

    python benches/few_labels.py [--quick] [--jobs 2]

The data are 174 labelled windows of two classes, from a sample market with planted expansions. Models are trained in
five folds with five seeds; each seed also gives other folds. Encoders are pre-trained on bars before all labelled
windows. The table, its numbers and pictures are written to `benches/results/few-labels.…`. The settings of the networks
were chosen on the market of seed 17. The table is of another market, on which nothing was chosen.

`--quick` runs the same steps with very small sizes, to check that the script works. Its results mean nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchmark import RESULTS, WORK, machine, machine_key
from joblib import delayed
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import moola
from moola.devices.ranks import in_order
from moola.errors import LeakError, SharedBarsError
from moola.estimators.kinds import make_member
from moola.evaluation.baselines import PooledLogisticRegression, pool_features
from moola.evaluation.figures import save_png
from moola.evaluation.fold_predictions import fit_predict, out_of_fold
from moola.evaluation.intervals import LEVEL, Difference, Interval, Resamples, over_repeats
from moola.evaluation.leaks import FittedOn, assert_blind_to_test, assert_nothing_remembered
from moola.evaluation.metrics import METRICS
from moola.evaluation.outcomes import Predictions, Truth
from moola.evaluation.permutation import permute_groups
from moola.labels import LabelledWindows, read_labels
from moola.splits import assert_no_shared_bars
from moola.training import pretrain
from moola.validation import CrossValidation, OutOfFold, cross_validate, purged_folds, seen_windows, stack
from moola.validation.assessment import baselines_of
from moola.validation.cross_validation import FROM_SCRATCH, repeated_folds
from moola.validation.records import relabelled, truth_of, with_members
from moola.validation.stacks import STACK

MARKET_SEED = 2028
"""Seed of the market and the labels."""
SHUFFLE_SEED = 7_000
"""Seed of the first model's first shuffle. Each further model adds 1, each further shuffle adds 1,000."""
SEED = 0
"""Seed of folds, models and resamples."""

Splits = Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class Sizes:
    """The sizes of a run."""

    bars: int = 1_000_000
    pretrain_epochs: int = 5
    labels: tuple[int, ...] = (50, 100, 174)
    folds: int = 5
    seeds: int = 5
    inner_folds: int = 3
    """Inner folds of the stack."""
    epochs: int = 16
    """Epochs of fine-tuning. Each serves every window five times."""
    rounds: int = 3
    """Rounds of the race of folds."""


QUICK = Sizes(
    bars=300_000,
    pretrain_epochs=1,
    labels=(30, 40),
    folds=3,
    seeds=2,
    inner_folds=2,
    epochs=1,
    rounds=1,
)
RACED_FOLDS = 6


class Table:
    """The rows of the table. They are written after each new row, so an aborted run keeps its results."""

    def __init__(self, kept: Path) -> None:
        self.kept = kept
        self.rows: list[dict[str, Any]] = []

    def add(self, claim: str, bound: str, measured: str, holds: bool | None, **numbers: Any) -> None:
        """Adds a row. `holds` is None if the row makes no claim."""
        self.rows.append(
            {"claim": claim, "at least": bound, "measured": measured, "holds": holds, "numbers": numbers}
        )
        verdict = "" if holds is None else "  holds" if holds else "  DOES NOT HOLD"
        print(f"{claim}: {measured}{verdict}", flush=True)
        self.write("Unfinished.")

    def write(self, head: str, **more: Any) -> None:
        """Writes `table.md` and `numbers.json`."""
        (self.kept / "table.md").write_text(f"# Learning from few labels\n\n{head}\n\n{self.markdown()}\n")
        record = more | {"rows": self.rows}
        (self.kept / "numbers.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    def markdown(self) -> str:
        """The rows as a Markdown table."""
        lines = ["| claim | at least | measured | |", "|---|---|---|---|"]
        for row in self.rows:
            verdict = {None: "", True: "holds", False: "**does not hold**"}[row["holds"]]
            lines.append(f"| {row['claim']} | {row['at least']} | {row['measured']} | {verdict} |")
        return "\n".join(lines)


@contextmanager
def timed(what: str, seconds: dict[str, float]) -> Iterator[None]:
    """Prints what is being done, and records its seconds."""
    print(f"\n{what} …", flush=True)
    start = time.perf_counter()
    yield
    seconds[what] = round(time.perf_counter() - start, 1)
    print(f"{what}: {seconds[what]:.0f} s", flush=True)


# ---- data and encoders ----------------------------------------------------------------------------------------------


def market(sizes: Sizes, work: Path) -> tuple[moola.FeatureStore, LabelledWindows]:
    """A store, and as many labelled windows as needed, all of them after the bars of pre-training."""
    made = moola.make_bars(
        work / "bars.parquet", sizes.bars, seed=MARKET_SEED, expansions=work / "labels.parquet"
    )
    store = moola.build_features(made.output, work / "store", stamp="open", split=(0.45, 0.05, 0.5))
    windows = read_labels(work / "labels.parquet", store)
    assert windows.splits is not None
    after = np.flatnonzero(windows.splits == 2)
    if len(after) < max(sizes.labels):
        raise SystemExit(f"only {len(after)} windows lie after the bars of pre-training; make more bars")
    return store, windows.take(after[: max(sizes.labels)])


def encoders(sizes: Sizes, store: moola.FeatureStore, work: Path) -> dict[str, str]:
    """Paths of pre-trained runs, by name of the model."""
    runs = {}
    for model in ("jade_compact", "jade"):
        said = pretrain(
            store,
            work / model,
            model=model,
            seed=SEED,
            batch_size=64,
            epochs=sizes.pretrain_epochs,
            say=lambda _: None,
        )
        print(f"{model}: {said.verdict}", flush=True)
        runs[model] = str(work / model)
    return runs


def network(kind: str, encoder: str | None, sizes: Sizes, **given: Any) -> Any:
    """A Jade member with the settings of this benchmark."""
    settings = {"epochs": sizes.epochs, "freeze": "none", "lr": 1e-3, "batch_size": 32} | given
    settings.setdefault("settings", ("model.architecture.span_head=true",))
    return make_member(kind, encoder=encoder, seed=SEED, **settings)


def fewer(splits: Splits, truth: Truth, labels: int) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """The same folds with fewer training windows, in proportion to `labels`. Classes keep their shares."""
    share = labels / len(truth)
    found = []
    for repeat, folds in enumerate(splits):
        kept = []
        for fold, (train, test) in enumerate(folds):
            rng = np.random.default_rng([SEED, repeat, fold])
            parts = [rng.permutation(train[truth.y[train] == code]) for code in range(len(truth.classes))]
            few = [part[: max(2, round(share * len(part)))] for part in parts]
            kept.append((np.sort(np.concatenate(few)), test))
        found.append(kept)
    return found


# ---- the claims -----------------------------------------------------------------------------------------------------


def against_baselines(table: Table, validation: CrossValidation, resamples: Resamples) -> None:
    """Compares fine-tuned jade_compact with the best trivial baseline."""
    model = "jade_compact"
    said = validation.predictions(model)
    baselines = baselines_of(validation, seed=SEED)
    for metric in ("macro_f1", "span_hits"):
        scored = {name: resamples.bootstrap(several)[metric] for name, several in baselines.items()}
        best = max(
            (name for name in scored if not math.isnan(scored[name].value)), key=lambda n: scored[n].value
        )
        difference = resamples.differences(said, baselines[best], (model, best))[metric]
        own = resamples.bootstrap(said)[metric]
        table.add(
            f"fine-tuned {model} against the best trivial baseline ({best}), {title(metric)}",
            "difference above 0",
            f"{own} against {scored[best]}: difference {difference.interval}",
            difference.interval.low > 0,
            model=asdict(own),
            difference=asdict(difference.interval),
            baselines={name: asdict(one) for name, one in scored.items()},
        )


def title(metric: str) -> str:
    """The metric's name in the table."""
    return {"macro_f1": "macro-F1", "span_hits": "span hits within ±3 bars"}[metric]


def compared(
    table: Table, what: str, validation: CrossValidation, model: str, other: str, resamples: Resamples
) -> dict[str, Difference]:
    """Compares two models: one row per metric, without a bound."""
    pair = validation.predictions(model), validation.predictions(other)
    scores = [resamples.bootstrap(said) for said in pair]
    differences = resamples.differences(*pair, (model, other))
    for metric in ("macro_f1", "span_hits"):
        difference = differences[metric]
        if math.isnan(difference.interval.value):
            continue
        verdict = "" if difference.shown else "; no difference shown"
        table.add(
            f"{what}, {title(metric)}",
            "no bound",
            f"{scores[0][metric]} against {scores[1][metric]}: difference {difference.interval}{verdict}",
            None,
            scores=[asdict(one[metric]) for one in scores],
            difference=asdict(difference.interval),
        )
    return differences


def shuffled(
    table: Table,
    windows: LabelledWindows,
    members: Mapping[str, Any],
    stacked: Mapping[str, Any],
    store: moola.FeatureStore,
    sizes: Sizes,
    jobs: int,
) -> None:
    """Scores every model and the stack on shuffled labels: whole groups exchange their labels, several times.

    Chance must be inside the interval of the mean over these shuffles. The interval is Student's t over the shuffles, at
    a level at which all models' intervals hold together in 95 % of cases. An interval from resampling the windows of one
    shuffle does not include the variation of training sets, and is too narrow for this (`benches/shuffled_coverage.py`).
    """
    names = [*members, STACK]
    level = 1 - (1 - LEVEL) / len(names)
    chance = 1 / len(truth_of(windows).classes)
    seeds = {
        name: [SHUFFLE_SEED + 1_000 * repeat + number for repeat in range(sizes.seeds)]
        for number, name in enumerate(names)
    }
    given = {name: {name: one} for name, one in members.items()} | {STACK: dict(stacked)}
    found = in_order(
        (
            delayed(score_of_shuffled)(windows, given[name], seed, SEED + repeat, store, sizes)
            for name in names
            for repeat, seed in enumerate(seeds[name])
        ),
        jobs,
    )
    for name in names:
        scores = list(islice(found, sizes.seeds))
        interval = over_repeats(scores, level=level)
        table.add(
            f"labels shuffled {sizes.seeds} times, {name}: chance ({chance:g}) inside the {level:.2%} interval of the "
            "mean balanced accuracy",
            "inside",
            f"{interval}, of {', '.join(f'{one:.3f}' for one in scores)}",
            interval.low <= chance <= interval.high,
            interval=asdict(interval),
            scores=scores,
            seeds=seeds[name],
        )


def score_of_shuffled(
    windows: LabelledWindows,
    members: Mapping[str, Any],
    shuffle_seed: int,
    fold_seed: int,
    store: moola.FeatureStore,
    sizes: Sizes,
) -> float:
    """The balanced accuracy of a model, or of the stack of several models, on labels shuffled once."""
    truth, said = said_of_shuffled(windows, members, shuffle_seed, fold_seed, store, sizes)
    return METRICS["balanced_accuracy"](truth, said)


def said_of_shuffled(
    windows: LabelledWindows,
    members: Mapping[str, Any],
    shuffle_seed: int,
    fold_seed: int,
    store: moola.FeatureStore,
    sizes: Sizes,
) -> tuple[Truth, Predictions]:
    """The labels after whole groups exchanged them, and out-of-fold predictions of a model or of the stack of several."""
    truth = truth_of(windows)
    order = permute_groups(truth.groups, np.random.default_rng(shuffle_seed))
    labels = relabelled(windows, truth.relabelled(order))
    splits = [purged_folds(labels, sizes.folds, seed=fold_seed, store=store)]
    if len(members) == 1:
        (name,) = members
        found = cross_validate(labels, members, splits=splits, scratch=False)
    else:
        name = STACK
        found = stack(
            labels,
            members,
            splits=splits,
            inner_folds=sizes.inner_folds,
            seed=fold_seed,
            store=store,
            scratch=False,
        )
    (said,) = found.predictions(name)
    return found.truth, said


def planted_leaks(table: Table, windows: LabelledWindows, store: moola.FeatureStore) -> None:
    """Plants leaks. For each, its check must fail with the leak and pass without it."""
    truth = truth_of(windows)
    folds = purged_folds(windows, 3, seed=SEED, store=store)
    train, test = folds[0]

    # Each window a second time, ten bars later, in its own group.
    starts = np.concatenate([windows.starts, windows.starts + 10])
    ends = starts + windows.window_length - 1
    x = np.stack([store.window(int(start), windows.window_length) for start in starts])
    twice = Truth(np.tile(truth.classes[truth.y], 2))
    half = np.arange(len(starts)) < len(windows)
    overlapping = [
        (np.flatnonzero(half), np.flatnonzero(~half)),
        (np.flatnonzero(~half), np.flatnonzero(half)),
    ]

    def scaled_on_all(x: np.ndarray, truth: Truth, train: np.ndarray, test: np.ndarray) -> Predictions:
        pooled = StandardScaler().fit_transform(pool_features(x))
        regression = LogisticRegression(max_iter=1_000).fit(pooled[train], truth.y[train])
        return Predictions(regression.predict_proba(pooled[test]))

    def scaled_on_train(x: np.ndarray, truth: Truth, train: np.ndarray, test: np.ndarray) -> Predictions:
        return Predictions(fit_predict(PooledLogisticRegression(), x, truth, train, test)[0])

    probabilities = out_of_fold(PooledLogisticRegression(), windows.X, truth, folds).probabilities
    in_folds = np.empty(len(truth), np.int64)
    for fold, (_, tested) in enumerate(folds):
        in_folds[tested] = fold
    everything = FittedOn(np.arange(len(truth)))

    def level_one(fitted_on: Sequence[FittedOn]) -> OutOfFold:
        return OutOfFold(Predictions(probabilities, folds=in_folds), tuple(fitted_on))

    checks: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "an overlapping window, by its bars' numbers": (
            lambda: assert_no_shared_bars(starts, ends, *overlapping[0]),
            lambda: assert_no_shared_bars(windows.starts, windows.ends, train, test),
        ),
        "an overlapping window, by a model that remembers": (
            lambda: assert_nothing_remembered(lambda probe: out_of_fold(probe, x, twice, overlapping)),
            lambda: assert_nothing_remembered(lambda probe: out_of_fold(probe, windows.X, truth, folds)),
        ),
        "a scaler fitted on all windows": (
            lambda: assert_blind_to_test(scaled_on_all, windows.X, truth, train, test, seed=SEED),
            lambda: assert_blind_to_test(scaled_on_train, windows.X, truth, train, test, seed=SEED),
        ),
        "a stack on predictions within the fold": (
            lambda: level_one([everything] * len(folds)),
            lambda: level_one([FittedOn(train) for train, _ in folds]),
        ),
    }
    for name, (leaking, sound) in checks.items():
        sound()
        try:
            leaking()
            said = ""
        except (LeakError, SharedBarsError) as error:
            said = str(error)
        table.add(
            f"a planted leak: {name}",
            "caught",
            said.partition(". ")[0] or "not caught",
            bool(said),
            message=said,
        )


def race(table: Table, windows: LabelledWindows, store: moola.FeatureStore, sizes: Sizes, jobs: int) -> None:
    """Times six folds one after the other, and in parallel. Each fit has one thread."""
    folds = purged_folds(windows, RACED_FOLDS, seed=SEED, store=store)
    members = {"jade_compact": network("jade_compact", None, sizes, epochs=max(1, sizes.epochs // 2))}

    def once(jobs: int) -> float:
        start = time.perf_counter()
        cross_validate(windows, members, splits=[folds], n_jobs=jobs)
        return time.perf_counter() - start

    # Worker processes stay alive between rounds, as they do between members.
    once(jobs)
    rounds = [(once(1), once(jobs)) for _ in range(sizes.rounds)]
    ratios = [alone / together for alone, together in rounds]
    table.add(
        f"{RACED_FOLDS} folds in parallel against one after the other, one thread each, {jobs} at a time",
        "1.6 ×",
        f"{median(ratios):.2f} × ({min(ratios):.2f} to {max(ratios):.2f})",
        median(ratios) >= 1.6,
        seconds=rounds,
    )


# ---- pictures -------------------------------------------------------------------------------------------------------

Curve = dict[int, tuple[dict[str, Interval], dict[str, Interval], dict[str, Difference]]]
"""For each number of labels: scores pre-trained, scores from scratch, and their differences."""


def learning_curve(curve: Curve) -> Figure:
    """Pre-trained against from scratch over the number of labels: scores and paired differences."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    labels = list(curve)
    for column, metric in enumerate(("macro_f1", "span_hits")):
        above, below = axes[0, column], axes[1, column]
        for side, (name, marker) in enumerate((("pre-trained", "o"), ("from scratch", "s"))):
            intervals = [curve[n][side][metric] for n in labels]
            _bars(above, [n + (2 * side - 1) for n in labels], intervals, name, marker)
        _bars(below, labels, [curve[n][2][metric].interval for n in labels], "difference", "D")
        below.axhline(0, color="black", linewidth=0.8)
        above.set_title(title(metric))
        below.set_xlabel("labelled windows")
        below.set_xticks(labels)
        above.legend(frameon=False)
    axes[0, 0].set_ylabel("score, 95 % interval")
    axes[1, 0].set_ylabel("pre-trained minus from scratch")
    return figure


def comparison_figure(table: Table) -> Figure:
    """All paired differences with their intervals."""
    rows = [row for row in table.rows if "difference" in row["numbers"]]
    figure = Figure(figsize=(9, 0.42 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(reversed(rows)):
        found = row["numbers"]["difference"]
        errors = [[found["value"] - found["low"]], [found["high"] - found["value"]]]
        axes.errorbar([found["value"]], [place], xerr=errors, fmt="o", color="C0", capsize=3)
    axes.set_yticks(range(len(rows)), [row["claim"] for row in reversed(rows)], fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("paired difference, 95 % interval")
    return figure


def _bars(axes: Any, x: Sequence[float], intervals: Sequence[Interval], name: str, marker: str) -> None:
    value = np.array([one.value for one in intervals])
    errors = [value - [one.low for one in intervals], [one.high for one in intervals] - value]
    axes.errorbar(x, value, yerr=errors, marker=marker, capsize=3, label=name)


# ---- the run --------------------------------------------------------------------------------------------------------


def run(sizes: Sizes, jobs: int, kept: Path) -> bool:
    """Measures everything. Returns whether all claims hold."""
    kept.mkdir(parents=True)
    table, seconds = Table(kept), dict[str, float]()
    work = WORK / "few-labels"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    started = time.perf_counter()

    with timed("market and labels", seconds):
        store, windows = market(sizes, work)
        truth = truth_of(windows)
        splits = repeated_folds(windows, sizes.folds, sizes.seeds, seed=SEED, embargo=0, store=store)
        resamples = Resamples(truth, seed=SEED)
        n = len(windows)
    with timed("pre-training", seconds):
        runs = encoders(sizes, store, work)
        seen = seen_windows(runs["jade_compact"], windows, store)
    compact, large = runs["jade_compact"], runs["jade"]

    curve: Curve = {}
    for labels in sorted(sizes.labels, reverse=True):
        with timed(f"pre-trained and from scratch, {labels} labels", seconds):
            found = cross_validate(
                windows,
                {"jade_compact": network("jade_compact", compact, sizes)},
                splits=splits if labels == n else fewer(splits, truth, labels),
                seen=seen,
                n_jobs=jobs,
            )
            if labels == n:
                main = found
                against_baselines(table, main, resamples)
            names = "jade_compact", f"jade_compact{FROM_SCRATCH}"
            differences = compared(
                table, f"pre-trained against from scratch, {labels} labels", found, *names, resamples
            )
            scores = [resamples.bootstrap(found.predictions(name)) for name in names]
            curve[labels] = scores[0], scores[1], differences
    variants = {
        "frozen": ("the encoder trained throughout against frozen throughout", {"freeze": "always"}),
        "thawed": ("the encoder trained throughout against thawed after 3 epochs", {"freeze": 3}),
        "not augmented": (
            "×5 augmentation against none, as many steps",
            {"augmentation": False, "epochs": 5 * sizes.epochs},
        ),
        "pointer": ("spans by the span head against the pointer alone", {"settings": ()}),
    }
    for name, (what, given) in variants.items():
        with timed(what, seconds):
            member = {name: network("jade_compact", compact, sizes, **given)}
            found = cross_validate(windows, member, splits=splits, seen=seen, scratch=False, n_jobs=jobs)
            compared(
                table, what, with_members(main, main.members | found.members), "jade_compact", name, resamples
            )
    with timed("jade", seconds):
        member = {"jade": network("jade", large, sizes)}
        found = cross_validate(windows, member, splits=splits, seen=seen, scratch=False, n_jobs=jobs)
        what = "jade against jade_compact, both pre-trained"
        compared(
            table, what, with_members(main, main.members | found.members), "jade", "jade_compact", resamples
        )

    plain = {"augmentation": False}
    stacked = {
        "jade_compact": network("jade_compact", compact, sizes, **plain),
        "jade": network("jade", large, sizes, **plain),
        **{kind: make_member(kind) for kind in ("convolution", "regression", "boosted_trees", "rocket")},
    }
    with timed("stack", seconds):
        found = stack(
            windows,
            stacked,
            splits=splits[:1],
            inner_folds=sizes.inner_folds,
            seed=SEED,
            store=store,
            seen=seen,
            scratch=False,
            n_jobs=jobs,
        )
        scored = {name: resamples.bootstrap(found.predictions(name))["macro_f1"] for name in found.members}
        table.add(
            f"stack of {len(stacked)} kinds, networks without augmentation, one seed, macro-F1",
            "no bound",
            "; ".join(f"{name} {one}" for name, one in scored.items()),
            None,
            **{name: asdict(one) for name, one in scored.items()},
        )
    with timed("labels shuffled", seconds):
        members = stacked | {
            "jade_compact": network("jade_compact", compact, sizes),
            "jade": network("jade", large, sizes),
        }
        shuffled(table, windows, members, stacked, store, sizes, jobs)
    with timed("planted leaks", seconds):
        planted_leaks(table, windows, store)
    with timed("six folds in parallel", seconds):
        race(table, windows, store, sizes, jobs)
    total = time.perf_counter() - started

    curve = dict(sorted(curve.items()))
    save_png(learning_curve(curve), kept / "learning-curve.png")
    save_png(comparison_figure(table), kept / "differences.png")
    facts = machine()
    counts = ", ".join(f"{(truth.y == code).sum()} {name}" for code, name in enumerate(truth.classes))
    took = "; ".join(f"{what} {s:.0f} s" for what, s in seconds.items())
    head = (
        f"{time.strftime('%d %B %Y', time.gmtime())}, {facts['cpu']}, {facts['cores']} cores; {total / 60:.0f} minutes "
        f"with {jobs} fits at a time ({took}). Market of seed {MARKET_SEED}, {sizes.bars:,} bars; {n} windows of "
        f"{windows.window_length} bars, {windows.feature_set} ({counts}; {truth.n_groups} groups, {int(seen.sum())} "
        f"windows seen in pre-training); {sizes.folds} folds, {sizes.seeds} seeds, {sizes.epochs} epochs of fine-tuning; "
        f"encoders of {sizes.pretrain_epochs} epochs on the first 45 % of the bars. Fewer labels train on fewer windows "
        "of the same folds, and are tested on all windows."
    )
    table.write(head, machine=facts, sizes=asdict(sizes), seconds=seconds)
    missed = [row["claim"] for row in table.rows if row["holds"] is False]
    print(
        f"\n{total / 60:.1f} minutes; kept in {kept}" + "".join(f"\nDOES NOT HOLD: {one}" for one in missed)
    )
    return not missed


def main() -> int:
    """Runs the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="very small sizes, to check that the script works"
    )
    parser.add_argument("--jobs", type=int, default=2, help="number of fits in parallel")
    options = parser.parse_args()
    started = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept = (WORK if options.quick else RESULTS) / f"few-labels.{machine_key(machine())}.{started}"
    return int(not run(QUICK if options.quick else Sizes(), options.jobs, kept))


if __name__ == "__main__":
    raise SystemExit(main())
