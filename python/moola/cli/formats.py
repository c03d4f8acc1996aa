"""The command that lists the vendors whose exports are known."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from moola.cli.app import Json, app, print_json, print_table
from moola.errors import ConfigError

__all__ = ["formats"]


@app.command()
def formats(
    vendor: Annotated[
        str | None,
        typer.Argument(metavar="VENDOR", help="Show one vendor only.", show_default="all, in short"),
    ] = None,
    page: Annotated[
        bool, typer.Option("--page", help="Print the page of the documentation, in Markdown.")
    ] = False,
    json: Json = False,
) -> None:
    """List the vendors whose files are known: how each is read, and the command that reads it."""
    from moola.bars.vendors import known_vendors, vendors_page

    known = known_vendors()
    if page:
        print(vendors_page(), end="")
        return
    if vendor is not None:
        shown = [one for one in known if vendor.lower().replace(" ", "") in one.name.lower().replace(" ", "")]
        if not shown:
            raise ConfigError(
                "vendor",
                f"{vendor!r} is not among {', '.join(one.name for one in known)}; `moola formats` lists them",
            )
        known = tuple(shown)
    if json:
        print_json({"vendors": [asdict(one) | {"command": one.command()} for one in known]})
    elif vendor is None:
        print_table(
            "Vendors whose files are known",
            ["vendor", "export", "what to give"],
            [
                (one.name, one.export, "refused" if one.refused else " ".join(one.options) or "nothing")
                for one in known
            ],
        )
        print(
            "\n`moola formats VENDOR` shows the whole command. Other files work if they hold a time and four prices."
        )
    else:
        for one in known:
            print(f"{one.name}: {one.export}\n  {one.recognised}")
            print("  This export is refused." if one.refused else f"  $ {one.command()}")
            print(f"  {one.note}\n" if one.note else "")
