"""The table of vendors whose exports are known: how each writes bars, and the command that reads them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

__all__ = ["Vendor", "known_vendors", "vendors_page"]


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """One export of one vendor, as an entry of `vendors.yaml` describes it."""

    name: str
    export: str
    """Where the vendor's program or page makes the file."""
    file: str
    """An example of the file's name."""
    header: tuple[str, ...]
    """The lines before the first row."""
    row: str
    """How a bar is written: a Python format; see `vendors.yaml`."""
    zone: str
    """The zone of times as they are written."""
    stamp: Literal["open", "close"]
    options: tuple[str, ...]
    """What `moola build-features` needs beside --data, --output and --stamp."""
    recognised: str
    """How the columns are found."""
    note: str = ""
    member: str = ""
    """The name of the file in a ZIP archive."""
    written: Literal["text", "feather"] = "text"
    newest_first: bool = False
    refused: str = ""
    """A word of the refusal, for an export that cannot be read."""

    def command(self) -> str:
        """The command that builds a store from the file, as a shell takes it."""
        words = ["moola", "build-features", "--data", self.file, "--output", "store", "--stamp", self.stamp]
        return shlex.join([*words, *self.options])


@cache
def known_vendors() -> tuple[Vendor, ...]:
    """All entries of the table, in its order."""
    from moola.settings.yaml import read_yaml

    entries = read_yaml(Path(__file__).with_name("vendors.yaml"))["vendors"]
    lists = ("header", "options")
    return tuple(Vendor(**entry | {name: tuple(entry[name]) for name in lists}) for entry in entries)


def vendors_page() -> str:
    """The page "Bars from your vendor", in Markdown."""
    lines = [
        "# Bars from your vendor",
        "",
        "<!-- Written by `moola formats --page`. Change python/moola/bars/vendors.yaml instead. -->",
        "",
        "Each entry says how the vendor's export looks, how moola reads it, and the exact command. `--stamp` says",
        "whether times name the open or the close of their bars. `moola build-features --help` explains the other",
        "options. A vendor may change its export: the build prints what it took for granted, and",
        "`moola verify-features --data FILE` compares the store with the file.",
        "",
    ]
    for vendor in known_vendors():
        lines += [f"## {vendor.name}", "", f"*{vendor.export}*", "", vendor.recognised, ""]
        if vendor.refused:
            lines += [f"This export is refused. {vendor.note}", ""]
            continue
        lines += ["```bash", vendor.command(), "```", ""]
        lines += [vendor.note, ""] if vendor.note else []
    return "\n".join(lines)
