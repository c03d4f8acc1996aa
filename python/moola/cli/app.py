"""The `moola` command itself: messages, exit codes, and the functions that commands print with.

Text goes to standard output, progress and errors to standard error. With `--json`, standard output gets one
JSON object, for errors too. The exit code is 0 for success, 1 for failure, 2 for wrong usage, and
130 after Ctrl-C. Each command imports what it needs when it runs, so that start-up stays short.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from typer.core import TyperGroup

from moola._core import __version__
from moola.errors import ConfigError, MoolaError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = [
    "Json",
    "Progress",
    "app",
    "describe_file",
    "format_bytes",
    "print_facts",
    "print_json",
    "print_table",
    "run",
]

# Click's class. Newer versions of typer carry a copy of click, so it is not imported by name.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]

_OS_ADVICE = {
    errno.EACCES: "Check the permissions, or choose another place",
    errno.EDQUOT: "Free some space, or choose a place on another disk",
    errno.EFBIG: "Choose a file system, or a limit, that allows files of this size",
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.ENOENT: "Check the path",
    errno.ENOSPC: "Free some space, or choose a place on another disk",
    errno.EPERM: "Check the permissions, or choose another place",
    errno.EROFS: "Choose a place that can be written to",
}


class _Moola(TyperGroup):
    """The group of commands. It turns the errors they raise into a message and an exit code."""

    def main(self, args: Sequence[str] | None = None, *others: Any, **options: Any) -> Any:
        args = self._spread_data(list(sys.argv[1:] if args is None else args)) or ["--help"]
        json = "--json" in args
        code: object
        try:
            code = super().main(args, *others, **options | {"standalone_mode": False})
            if code == 130:
                # After Ctrl-C while parsing, some versions of typer return 130 and others raise Abort.
                raise typer.Abort
            sys.stdout.flush()
        except (KeyboardInterrupt, typer.Abort):
            code = _fail(json, "KeyboardInterrupt", "interrupted: nothing unfinished is left behind", 130)
        except _UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "moola"
            message = f"{error.format_message()}\nTry `{command} --help`"
            code = _fail(json, "UsageError", message, 2)
        except ConfigError as error:
            message = f"{self._option(args, error.name)}: {self._placed(args, error.problem)}"
            code = _fail(json, "ConfigError", message, 2, vars(error))
        except MoolaError as error:
            code = _fail(json, type(error).__name__, self._placed(args, str(error)), 1, vars(error))
        except ImportError as error:
            if (error.name or "moola").partition(".")[0] == "moola":
                raise
            message = str(error)
            if message.startswith(("No module named", "import of")):
                message = (
                    f"this command needs {error.name}, which is not installed here: `pip install {error.name}`, or "
                    "install moola with its dependencies (without --no-deps)"
                )
            code = _fail(json, "ImportError", message, 1, {"name": error.name})
        except BrokenPipeError:
            # The reader closed the pipe, as in `moola inspect STORE | head`.
            _drop_output()
            code = 1
        except OSError as error:
            facts = {"errno": error.errno, "filename": error.filename}
            try:
                sys.stdout.flush()
                code = _fail(json, type(error).__name__, _os_message(error), 1, facts)
                sys.stdout.flush()
            except OSError:
                # Writing to standard output itself failed.
                _drop_output()
                code = _fail(False, type(error).__name__, _os_message(error), 1)
        sys.exit(code if isinstance(code, int) else 0)

    def _spread_data(self, args: list[str]) -> list[str]:
        """`--data a b c`, as a shell makes it of `--data *.csv`, written as `--data a --data b --data c`."""
        command = next((self.commands[arg] for arg in args if arg in self.commands), None)
        parameters = [] if command is None else command.params
        # Where a command takes something else without an option, only that option's own value is meant.
        if any(
            parameter.param_type_name == "argument" and parameter.name != "bars" for parameter in parameters
        ):
            return args
        if not any("--data" in parameter.opts for parameter in parameters):
            return args
        spread: list[str] = []
        in_data = False
        for arg in args:
            if arg.startswith("-"):
                in_data = arg == "--data"
                spread.append(arg)
            elif in_data and spread[-1] != "--data":
                spread += ["--data", arg]
            else:
                spread.append(arg)
        return spread

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # Versions of typer differ in how they handle it.
            raise typer.Abort from None

    def _placed(self, args: Sequence[str], message: str) -> str:
        """The message, in which an option that the command lacks is followed by the command that has it.

        An error of the library may name an option of another command: `predict` also meets bars, but keeps no columns.
        """
        options = {
            name: {known for parameter in command.params for known in parameter.opts}
            for name, command in self.commands.items()
        }
        own = next((options[arg] for arg in args if arg in options), None)
        if own is None or "(of moola " in message:
            return message

        def placed(match: re.Match[str]) -> str:
            option = match[0]
            having = [name for name in ("build-features", *options) if option in options.get(name, ())]
            return option if option in own or not having else f"{option} (of moola {having[0]})"

        return re.sub(r"(?<![-\w])--[a-z][a-z-]*[a-z](?![-\w])", placed, message)

    def _option(self, args: Sequence[str], name: str) -> str:
        """The command's option for a parameter of the library, or the parameter if no option has its name."""
        option = "--" + name.replace("_", "-")
        commands = [self.commands[arg] for arg in args if arg in self.commands]
        known = {
            known for command in commands[:1] for parameter in command.params for known in parameter.opts
        }
        return option if option in known else name


app = typer.Typer(
    name="moola",
    cls=_Moola,
    help="Causal features on minute bars: computed once, verified, opened in milliseconds.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run() -> None:
    """Runs the command in the arguments of this process, and ends the process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # File names may contain bytes that are not text, and a terminal may be unable to print an arrow.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="moola")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"moola {__version__}")
        raise typer.Exit


@app.callback()
def _moola(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]


def _drop_output() -> None:
    """Drops output that could not be written. Python would otherwise try again at exit, and print an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(json: bool, kind: str, message: str, code: int, facts: Mapping[str, Any] | None = None) -> int:
    if json:
        shown = {name: fact for name, fact in (facts or {}).items() if not name.startswith("_")}
        print_json({"error": kind, "message": message} | shown)
    else:
        print(f"error: {message}", file=sys.stderr)
    return code


def _os_message(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    advice = _OS_ADVICE.get(error.errno or 0)
    return f"{where}{error.strerror}" + (f". {advice}" if advice else "")


def print_json(record: Mapping[str, Any]) -> None:
    import json

    def plain(value: object) -> object:
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        return str(value)

    print(json.dumps(record, ensure_ascii=False, allow_nan=False, default=plain, indent=1))


def print_facts(rows: Iterable[tuple[str, str]]) -> None:
    for name, fact in rows:
        print(f"{name:<12}{fact}")


def format_bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def describe_file(path: Path) -> str:
    return f"{path} ({format_bytes(path.stat().st_size)})"


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, name in enumerate(header):
        numeric = i > 0 and not name.startswith(
            ("first bar", "last bar", "begins", "for example", "outcome", "why")
        )
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    print()
    # Wide enough for every table, so that a narrow terminal or a pipe cuts nothing.
    Console(width=500, markup=False, highlight=False, emoji=False).print(table)


class Progress:
    """Shows a progress bar on a terminal if the work takes long. Elsewhere prints lines; with `--json`, nothing."""

    LABELS: Mapping[str, str] = {
        "bars": "making bars",
        "read": "reading bars",
        "features": "computing features",
        "publish": "writing to disk",
    }

    def __init__(self, json: bool) -> None:
        self._silent = json
        self._terminal = sys.stderr.isatty()
        self._stage = ""
        self._started = time.monotonic()
        self._bar: Bar | None = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, stage: str, done: int | None, total: int | None) -> None:
        if self._silent:
            return
        label = self.LABELS.get(stage, stage)
        if self._terminal:
            self._draw(label, done, total)
        elif stage != self._stage:
            print(f"{label} …", file=sys.stderr)
        self._stage = stage

    def _draw(self, label: str, done: int | None, total: int | None) -> None:
        if self._bar is None:
            if time.monotonic() - self._started < 0.3:
                return
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.description:<20}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(label, total=None)
            self._bar.start()
        self._bar.update(self._task, description=label, completed=done or 0, total=total)
