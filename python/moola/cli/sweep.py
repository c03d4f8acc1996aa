"""The command that searches for settings."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from moola.cli.app import Json, app, print_facts, print_json, print_table
from moola.cli.members import kept_columns_of

__all__ = ["sweep"]

SELECTION, MODEL = "Selection", "Model"


@app.command()
def sweep(
    labels: Annotated[
        str, typer.Option(metavar="L", help="A file of labelled windows, from moola import-labels.")
    ],
    space: Annotated[
        str, typer.Option(metavar="YAML", help="The settings to choose from. moola contains a grid.yaml.")
    ],
    trials: Annotated[int, typer.Option(help="Candidates to try per selection, at most the whole grid.")],
    output: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="A new directory; or the directory of the same sweep, to continue it or share its work.",
        ),
    ],
    folds: Annotated[
        int, typer.Option(help="Number of outer folds. They score the selection.", rich_help_panel=SELECTION)
    ] = 5,
    inner_folds: Annotated[
        int,
        typer.Option(
            help="Number of folds within each outer training part. They select.", rich_help_panel=SELECTION
        ),
    ] = 3,
    embargo: Annotated[
        int,
        typer.Option(
            help="Number of bars after a test window in which no training window may begin.",
            rich_help_panel=SELECTION,
        ),
    ] = 0,
    feature_dir: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="The store that was labelled. It holds the times of windows.",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of folds, candidates and models.", rich_help_panel=SELECTION)
    ] = 17,
    stale_after: Annotated[
        float,
        typer.Option(
            min=1,
            help="Seconds without a sign of life after which a worker counts as dead.",
            rich_help_panel=SELECTION,
        ),
    ] = 60.0,
    model: Annotated[
        str,
        typer.Option(metavar="NAME|YAML", help="jade, jade_compact, or a YAML file.", rich_help_panel=MODEL),
    ] = "jade_compact",
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="A pre-trained run that provides the initial encoder.", rich_help_panel=MODEL
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set a value of the configuration for all candidates. Repeat it for several.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(help="auto uses a GPU if there is one.", metavar="auto|cpu|cuda", rich_help_panel=MODEL),
    ] = "auto",
    scratch: Annotated[
        bool,
        typer.Option(
            help="With an encoder, also train each outer fold's choice from scratch, to compare.",
            rich_help_panel=MODEL,
        ),
    ] = True,
    permutations: Annotated[
        int | None,
        typer.Option(
            help="Shuffles of the permutation test of the heads: one fit per outer fold and shuffle. 0 turns it off.",
            show_default="20",
            rich_help_panel=MODEL,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Search for settings. Start it several times to share the work.

    Inner folds select settings and outer folds score them, so the printed score is of windows that the selection has
    not seen.
    """
    from moola.estimators.jade import JadeClassifier
    from moola.labels import LabelledWindows
    from moola.sweep import sweep

    windows = LabelledWindows.load(labels)
    seen, notes = None, list[str]()
    if encoder is not None:
        from moola.validation.seen_bars import seen_windows

        seen = seen_windows(encoder, windows, feature_dir, say=notes.append)

    def say(line: str) -> None:
        if not json:
            print(line, file=sys.stderr)

    for note in notes:
        say(note)
    started = time.perf_counter()
    result = sweep(
        windows,
        space,
        output,
        trials=trials,
        estimator=JadeClassifier(
            model,
            seed=seed,
            device=device,
            encoder=encoder,
            kept_columns=kept_columns_of(windows),
            settings=tuple(settings or ()),
        ),
        folds=folds,
        inner_folds=inner_folds,
        embargo=embargo,
        store=feature_dir,
        seen=seen,
        scratch=scratch,
        permutations=permutations,
        seed=seed,
        stale_after=stale_after,
        say=say,
    )
    took = time.perf_counter() - started
    if json:
        return print_json(
            result.record()
            | {
                "output": output,
                "evaluation": result.evaluation.record(),
                "notes": notes,
                "seconds": round(took, 4),
            }
        )
    names = [*(f"fold {number + 1}" for number in range(folds)), "all windows"]
    selections = (*result.by_fold, result.chosen)
    print_table(
        "Chosen settings, on the training part of each fold and on all windows",
        ["within", *result.chosen.values, f"inner {result.metric}", "tried", "pruned"],
        (
            [
                name,
                *(
                    f"{value:.4g}" if isinstance(value, float) else str(value)
                    for value in one.values.values()
                ),
                f"{one.score:.4f}",
                f"{one.completed + one.pruned:,}",
                f"{one.pruned:,}",
            ]
            for name, one in zip(names, selections, strict=True)
        ),
    )
    evaluation = result.evaluation
    print_table("On windows that the selection has not seen", evaluation.columns, evaluation.rows())
    print("\n".join(["", *notes, *evaluation.summary()]))
    files = "result.json, evaluation.json, metrics.jsonl"
    print_facts([("took", f"{took:.1f} s"), ("sweep", f"{output}: {files}")])
    print(result.verdict)
    print(f"chosen: {', '.join(result.settings)}")
