"""The command that checks runs against gates."""

from __future__ import annotations

from typing import Annotated

import typer

from moola.cli.app import Json, app, print_json, print_table

__all__ = ["gate"]


@app.command()
def gate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run directory.")],
    gates: Annotated[
        str | None,
        typer.Option(
            metavar="YAML",
            help="A YAML file of bounds, or a model's YAML with a section named gates.",
            show_default="moola's own",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN",
            help="An earlier run. The check fails if RUN is worse beyond its 95 % interval. Repeat it for other seeds.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model to check, if several were evaluated.")
    ] = None,
    json: Json = False,
) -> None:
    """Check a run against gates (bounds). The exit code is 0 if it passes and 1 if not."""
    from moola.runs.gates import check_gates

    report = check_gates(run, gates=gates, against=against or (), model=model)
    if json:
        print_json(report.record())
    else:
        print_table(
            f"Gates of {report.run}: {report.checked} could be checked",
            ["gate", "value", "bound", "outcome", "why"],
            report.rows(),
        )
        print(f"\n{report.verdict}")
    if not report.passed:
        raise typer.Exit(1)
