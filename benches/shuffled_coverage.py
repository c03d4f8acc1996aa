"""How often intervals on shuffled labels contain chance: resampled windows of one shuffle, and Student's t over five.

    python benches/shuffled_coverage.py [--shuffles 1000] [--stack] [--jobs 2]

The windows and the level (99.29 %, for seven models) are those of `few_labels.py`. The model is pooled logistic
regression, or with `--stack` the stack of the three cheap kinds. Shuffled labels contain nothing to learn, so the true
score is chance, and the level says how many intervals should miss it. The seeds differ from those of `few_labels.py`.
"""

from __future__ import annotations

import argparse
import shutil

import numpy as np
from benchmark import WORK
from few_labels import SEED, Sizes, market, said_of_shuffled
from joblib import delayed

import moola
from moola.devices.ranks import in_order
from moola.estimators.kinds import make_member
from moola.evaluation.intervals import LEVEL, Interval, Resamples, over_repeats
from moola.labels import LabelledWindows

MODELS = 7
FIRST_SEED = 100_000


def scored(
    windows: LabelledWindows, kinds: tuple[str, ...], number: int, sizes: Sizes, store: moola.FeatureStore
) -> Interval:
    """Balanced accuracy on labels shuffled once, with the interval from resampled windows."""
    members = {kind: make_member(kind) for kind in kinds}
    truth, said = said_of_shuffled(windows, members, FIRST_SEED + number, number, store, sizes)
    level = 1 - (1 - LEVEL) / MODELS
    return Resamples(truth, seed=SEED, level=level).bootstrap(said)["balanced_accuracy"]


def missed(intervals: list[Interval], chance: float) -> str:
    """How many intervals miss chance, and how many should, in words."""
    count = sum(not one.low <= chance <= one.high for one in intervals)
    expected = len(intervals) * (1 - LEVEL) / MODELS
    width = np.mean([one.high - one.low for one in intervals])
    return f"{count} of {len(intervals)} miss chance, {expected:.1f} should; mean width {width:.3f}"


def main() -> None:
    """Runs the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shuffles", type=int, default=1_000, help="a multiple of 5")
    parser.add_argument("--stack", action="store_true", help="measure the stack of the cheap kinds")
    parser.add_argument("--jobs", type=int, default=2, help="number of shuffles in parallel")
    options = parser.parse_args()
    sizes = Sizes()
    kinds = ("regression", "boosted_trees", "rocket") if options.stack else ("regression",)
    work = WORK / "shuffled-coverage"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    store, windows = market(sizes, work)
    intervals = list(
        in_order(
            (delayed(scored)(windows, kinds, number, sizes, store) for number in range(options.shuffles)),
            options.jobs,
        )
    )
    values = np.array([one.value for one in intervals])
    level = 1 - (1 - LEVEL) / MODELS
    fives = [over_repeats(list(five), level=level) for five in values.reshape(-1, 5)]
    chance = 1 / len(windows.classes)
    print(
        f"{' + '.join(kinds)}, {len(values)} shuffles: mean {values.mean():.4f} ± "
        f"{values.std() / len(values) ** 0.5:.4f}, standard deviation {values.std():.4f}"
    )
    print(f"one shuffle, resampled windows: {missed(intervals, chance)}")
    print(f"five shuffles, Student's t:     {missed(fives, chance)}")


if __name__ == "__main__":
    main()
