"""The `moola` command: each verb a few lines over the library.

Text for people goes to standard output, progress and errors to standard error. With `--json` one JSON
object goes to standard output, an error too. The exit code is 0 when it worked, 1 when it did not, 2 when it
was asked wrongly, and 130 after Ctrl-C. What a command needs is imported when it runs: start-up stays short.
"""

from __future__ import annotations

import errno
import os
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
from moola.errors import ConfigError, MoolaError, format_time

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from moola.inspection import Inspection
    from moola.store import FeatureStore

__all__ = ["app", "run"]

# Click's, or that of the copy of click which newer typers carry.
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
    """The group of commands: it turns what they raise into a message and an exit code."""

    def main(self, args: Sequence[str] | None = None, *others: Any, **options: Any) -> Any:
        args = list(sys.argv[1:] if args is None else args) or ["--help"]
        json = "--json" in args
        code: object
        try:
            code = super().main(args, *others, **options | {"standalone_mode": False})
            if code == 130:
                # That is how some typers return from Ctrl-C while they parse; others raise Abort.
                raise typer.Abort
            sys.stdout.flush()
        except (KeyboardInterrupt, typer.Abort):
            code = _fail(json, "KeyboardInterrupt", "interrupted: nothing unfinished is left behind", 130)
        except _UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "moola"
            message = f"{error.format_message()}\nTry `{command} --help`"
            code = _fail(json, "UsageError", message, 2)
        except ConfigError as error:
            message = f"{self._option(args, error.name)}: {error.problem}"
            code = _fail(json, "ConfigError", message, 2, vars(error))
        except MoolaError as error:
            code = _fail(json, type(error).__name__, str(error), 1, vars(error))
        except BrokenPipeError:
            # The reader has seen enough, as in `moola inspect STORE | head`. Python would complain at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except OSError as error:
            facts = {"errno": error.errno, "filename": error.filename}
            code = _fail(json, type(error).__name__, _os_message(error), 1, facts)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # Typers differ in what they make of it.
            raise typer.Abort from None

    def _option(self, args: Sequence[str], name: str) -> str:
        """A parameter of the library as the command that ran calls it."""
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
    """Runs the command that the process was started with, and ends the process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # File names may hold bytes that are no text, and a terminal may not know an arrow.
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


Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for machines.")]

INPUT, TIME, STORE, SPLITS = "Reading bars", "Reading times", "The store", "Splits"


@app.command()
def make_bars(
    output: Annotated[
        str, typer.Argument(metavar="OUT", help="The file to write: .parquet, .csv or .csv.gz.")
    ],
    bars: Annotated[int, typer.Option(help="Bars of each symbol.")] = 1_818_450,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bars on every machine.")] = 17,
    symbols: Annotated[
        int | None, typer.Option(help="How many symbols; a column says which.", show_default="one, unnamed")
    ] = None,
    expansions: Annotated[
        str | None,
        typer.Option(metavar="LABELS", help="Plant directional surges, and write where to this file."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a sample market of one-minute bars, to try everything without a data vendor."""
    from moola.synth import make_bars

    started = time.perf_counter()
    with _Progress(json) as progress:
        market = make_bars(
            output,
            bars,
            seed=seed,
            symbols=symbols,
            expansions=expansions,
            progress=lambda done, total: progress("bars", done, total),
        )
    took = time.perf_counter() - started
    if json:
        return _print_json(market._asdict() | {"seconds": round(took, 4)})
    span = f"{format_time(market.first_timestamp)} to {format_time(market.last_timestamp)}"
    rows = [("bars", f"{market.bars:,}{_of_symbols(market.symbols)}, {span}"), ("file", _file(market.output))]
    if market.expansions is not None:
        rows.append(("labels", f"{market.labels:,} expansions in {_file(market.expansions)}"))
    _print_facts([*rows, ("took", f"{took:.2f} s")])


@app.command()
def build_features(
    data: Annotated[
        list[str],
        typer.Option(
            metavar="BARS",
            help="Parquet, CSV, Arrow IPC, or a directory of them; may be given again.",
        ),
    ],
    output: Annotated[
        str, typer.Option(metavar="STORE", help="The directory to make.", rich_help_panel=STORE)
    ],
    feature_set: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="relativity10, relativity12, relative_transform11 or ohlc4.",
            rich_help_panel=STORE,
        ),
    ] = "relativity10",
    config: Annotated[
        str | None,
        typer.Option(metavar="YAML", help="Parameters that differ from the defaults.", rich_help_panel=STORE),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            metavar="bars|windows",
            help="bars serves windows of any length; windows writes out all of one length.",
            rich_help_panel=STORE,
        ),
    ] = "bars",
    window_length: Annotated[int, typer.Option(help="Bars in a window.", rich_help_panel=STORE)] = 105,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an older store, atomically.", rich_help_panel=STORE)
    ] = False,
    train_end: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Last day of train.", rich_help_panel=SPLITS)
    ] = None,
    val_end: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Last day of val.", rich_help_panel=SPLITS)
    ] = None,
    test_end: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Last day of test.", rich_help_panel=SPLITS)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES",
            help="Shares of train, val and test instead.",
            show_default="0.7,0.15,0.15",
            rich_help_panel=SPLITS,
        ),
    ] = None,
    embargo: Annotated[
        int, typer.Option(help="Bars of each symbol dropped after each boundary.", rich_help_panel=SPLITS)
    ] = 0,
    reset_on_gap: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="A longer step between bars begins a new segment, such as 4h; `moola inspect` suggests one.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    segment_by: Annotated[
        str,
        typer.Option(
            metavar="COLUMNS",
            help="symbol, or symbol,contract to begin afresh at the rolls of a continuous future.",
            rich_help_panel=INPUT,
        ),
    ] = "symbol",
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="FILE_COLUMN=ROLE,…",
            help="Which column is what; in a CSV without header by number: 0=timestamp,1=open,…",
            rich_help_panel=INPUT,
        ),
    ] = None,
    keep: Annotated[
        str,
        typer.Option(
            metavar="COLUMNS", help="Columns to keep beside the bars, such as volume.", rich_help_panel=INPUT
        ),
    ] = "",
    drop_bad_bars: Annotated[
        bool,
        typer.Option(
            "--drop-bad-bars",
            help="Leave bars with NaN or infinite values out; each becomes a gap.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    dedup: Annotated[
        str | None,
        typer.Option(
            metavar="identical", help="Drop exact repeats of the bar before.", rich_help_panel=INPUT
        ),
    ] = None,
    sort: Annotated[
        bool,
        typer.Option("--sort", help="Bring bars into order; all are held in memory.", rich_help_panel=INPUT),
    ] = False,
    tz: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="Of local times, such as America/New_York.", rich_help_panel=TIME),
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT", help="How times are written, such as '%d.%m.%Y %H:%M'.", rich_help_panel=TIME
        ),
    ] = None,
    stamp: Annotated[
        str | None,
        typer.Option(
            metavar="open|close",
            help="Which time of a bar its timestamp is.",
            show_default="open",
            rich_help_panel=TIME,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Build a feature store from bars: read, check, compute, publish."""
    from moola.build import build_features

    started = time.perf_counter()
    with _Progress(json) as progress:
        store = build_features(
            data[0] if len(data) == 1 else data,
            output,
            feature_set=feature_set,
            config=_read_config(config),
            layout=layout,  # type: ignore[arg-type]
            window_length=window_length,
            train_end=train_end,
            val_end=val_end,
            test_end=test_end,
            split=_parse_shares(split),
            embargo=embargo,
            reset_on_gap=reset_on_gap,
            segment_by=segment_by,
            columns=columns,
            keep=keep,
            tz=tz,
            time_format=time_format,
            stamp=stamp,  # type: ignore[arg-type]
            overwrite=overwrite,
            drop_bad_bars=drop_bad_bars,
            dedup=dedup,  # type: ignore[arg-type]
            sort=sort,
            progress=progress,
        )
    took = time.perf_counter() - started
    # What the metadata cannot hold: the time from their being written to the store's standing under its name.
    timings = store.metadata["timings"]
    timings = timings | {"publish": round(max(took - sum(timings.values()), 0.0), 4), "total": round(took, 4)}
    if json:
        return _print_json(_build_record(store, timings))
    _print_build(store, timings)


@app.command()
def verify_features(
    feature_dir: Annotated[str, typer.Option(metavar="STORE", help="The store.")],
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="BARS", help="The bars it was built from, to compare with; may be given again."),
    ] = None,
    skip_reproducibility: Annotated[
        bool,
        typer.Option("--skip-reproducibility", help="Check files, ranges and splits, but recompute nothing."),
    ] = False,
    samples: Annotated[
        int, typer.Option(min=0, help="Windows to push bar by bar, and cuts to test causality at.")
    ] = 5,
    json: Json = False,
) -> int:
    """Verify a store: everything is recomputed from its bars, and compared to the bit."""
    from moola.verify import verify_features

    with _Progress(json) as progress:
        report = verify_features(
            feature_dir,
            data[0] if data and len(data) == 1 else data or None,
            reproducibility=not skip_reproducibility,
            samples=samples,
            progress=lambda check, done, total: progress(f"checking {check}", done, total),
        )
    if json:
        checks = [asdict(check) for check in report.checks]
        _print_json({"path": str(report.path), "ok": report.ok, "checks": checks})
    else:
        width = max(len(check.name) for check in report.checks)
        for check in report.checks:
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<{width}}  {check.detail}")
        failed = sum(not check.ok for check in report.checks)
        if failed:
            print(f"{failed} of {len(report.checks)} checks failed: do not train on {report.path};", end=" ")
            print("build it again, or restore it from a copy")
        else:
            print(f"{report.path} is sound")
    return 0 if report.ok else 1


@app.command()
def inspect(
    store: Annotated[str, typer.Argument(metavar="STORE", help="The store.")],
    json: Json = False,
) -> None:
    """Show what is in a store: features, segments, splits, gaps, and the --reset-on-gap they suggest."""
    from moola.inspection import inspect_store

    inspection = inspect_store(store)
    if json:
        return _print_json(inspection.as_dict())
    _print_inspection(inspection)


# What the options say


def _read_config(path: str | None) -> dict[str, Any] | None:
    if path is None:
        return None
    from moola.config import read_yaml

    return read_yaml(path)


def _parse_shares(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(share) for share in text.split(",")]
    except ValueError:
        raise ConfigError(
            "split", f"{text!r} is not three numbers; give shares such as 0.7,0.15,0.15"
        ) from None


# What comes out


def _fail(json: bool, kind: str, message: str, code: int, facts: Mapping[str, Any] | None = None) -> int:
    if json:
        shown = {name: fact for name, fact in (facts or {}).items() if not name.startswith("_")}
        _print_json({"error": kind, "message": message} | shown)
    else:
        print(f"error: {message}", file=sys.stderr)
    return code


def _os_message(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    advice = _OS_ADVICE.get(error.errno or 0)
    return f"{where}{error.strerror}" + (f". {advice}" if advice else "")


def _print_json(record: Mapping[str, Any]) -> None:
    import json

    def plain(value: object) -> object:
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        return str(value)

    print(json.dumps(record, ensure_ascii=False, allow_nan=False, default=plain, indent=1))


def _print_facts(rows: Iterable[tuple[str, str]]) -> None:
    for name, fact in rows:
        print(f"{name:<12}{fact}")


def _build_record(store: FeatureStore, timings: Mapping[str, float]) -> dict[str, Any]:
    return {
        "path": store.path,
        "store_id": store.id,
        "feature_set": store.feature_set,
        "features": store.feature_names,
        "layout": store.layout,
        "window_length": store.window_length,
        "bars": len(store),
        "symbols": _symbols(store),
        "segments": len(store.segments),
        "splits": {name: {"bars": s.bars, "windows": s.windows} for name, s in store.splits.items()},
        "quality": store.metadata["quality"],
        "timings": timings,
        "bytes": _size(store),
        "notices": store.notices,
    }


def _print_build(store: FeatureStore, timings: Mapping[str, float]) -> None:
    segments = store.segments
    first = min(segment.first_timestamp for segment in segments)
    last = max(segment.last_timestamp for segment in segments)
    length = f"windows of {store.window_length} bars"
    _print_facts(
        [
            (
                "bars",
                f"{len(store):,}{_of_symbols(_symbols(store))}, {format_time(first)} to {format_time(last)}",
            ),
            ("segments", f"{len(segments):,}"),
            *(
                (name, f"{split.windows:,} {length} in {split.bars:,} bars")
                for name, split in store.splits.items()
            ),
            ("quality", _quality(store.metadata["quality"])),
            ("took", ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in timings.items())),
            ("store", f"{store.path}: {store.feature_set}, layout {store.layout}, {_bytes(_size(store))}"),
        ]
    )
    for notice in store.notices:
        print(f"note: {notice}")


def _quality(quality: Mapping[str, Any]) -> str:
    """What was noticed about the bars; what did not occur is left out, but for gaps."""
    from moola.inspection import format_duration

    gaps = f"{quality['gaps']:,} gaps"
    if quality["gaps"]:
        gaps += f" (the longest step {format_duration(quality['longest_step'])})"
    words = {
        "zero_range_bars": "zero-range bars",
        "short_steps": "steps shorter than the bar interval",
        "jumps_over_50_percent": "jumps of more than 50 %",
        "dropped_bad_bars": "bad bars dropped",
        "dropped_duplicates": "repeats dropped",
    }
    return ", ".join([gaps, *(f"{quality[name]:,} {what}" for name, what in words.items() if quality[name])])


def _symbols(store: FeatureStore) -> list[str]:
    return [symbol for symbol in dict.fromkeys(segment.symbol for segment in store.segments) if symbol]


def _of_symbols(symbols: Sequence[str]) -> str:
    if not symbols:
        return ""
    names = ", ".join(symbols[:5]) + (", …" if len(symbols) > 5 else "")
    return f" of {len(symbols):,} symbol{'s' if len(symbols) > 1 else ''} ({names})"


def _size(store: FeatureStore) -> int:
    return sum((store.path / name).stat().st_size for name in store.files())


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _file(path: Path) -> str:
    return f"{path} ({_bytes(path.stat().st_size)})"


def _print_inspection(inspection: Inspection) -> None:
    from moola.inspection import describe_gap, format_duration

    def number(x: float | None) -> str:
        return "-" if x is None else f"{x:.4g}"

    def when(nanoseconds: int | None) -> str:
        return "-" if nanoseconds is None else format_time(nanoseconds)

    quality = inspection.quality
    symbols = _of_symbols(inspection.symbols)
    span = f"{when(inspection.first_timestamp)} to {when(inspection.last_timestamp)}"
    sources = ", ".join(source["name"] for source in inspection.sources[:3])
    more = f" and {len(inspection.sources) - 3:,} more" if len(inspection.sources) > 3 else ""
    interval = format_duration(inspection.segments[0].bar_interval)
    options = {
        name: value
        for name, value in inspection.read_options.items()
        if value not in (None, False, [], ["symbol"])
    }
    if (gap := options.get("reset_on_gap")) is not None:
        options["reset_on_gap"] = format_duration(gap)
    _print_facts(
        [
            ("store", f"{inspection.path}: layout {inspection.layout}, {_bytes(inspection.bytes)}"),
            ("id", inspection.store_id),
            ("built", f"{inspection.created} by moola {inspection.moola_version} from {sources}{more}"),
            ("read with", ", ".join(f"{name}={value}" for name, value in options.items())),
            (
                "bars",
                f"{inspection.bars:,}{symbols}, {inspection.valid_bars:,} past the warm-up, every {interval}",
            ),
            ("time", span),
            ("quality", _quality(quality)),
            ("set", inspection.feature_set),
            ("parameters", ", ".join(f"{name} {value:g}" for name, value in inspection.parameters.items())),
        ]
    )
    known = inspection.known_after["features"]
    _print_table(
        "Features of valid bars",
        ["feature", "mean", "std", "min", "max", "zeros", "range", "known after"],
        (
            [
                f.name,
                *map(number, (f.mean, f.std, f.min, f.max)),
                "-" if f.zeros is None else f"{f.zeros:.2%}",
                f"{number(f.low)} … {number(f.high)}",
                "-" if known.get(f.name) is None else f"{known[f.name]:,} bars",
            ]
            for f in inspection.features
        ),
    )
    _print_table(
        "Segments",
        ["symbol", "bars", "first bar", "last bar", "first valid row"],
        (
            [
                s.symbol or "-",
                f"{s.last_row - s.first_row + 1:,}",
                when(s.first_timestamp),
                when(s.last_timestamp),
                "-" if s.first_valid is None else f"{s.first_valid:,}",
            ]
            for s in inspection.segments[:8]
        ),
    )
    if len(inspection.segments) > 8:
        print(f"… and {len(inspection.segments) - 8:,} more; --json lists all")
    _print_table(
        "Splits",
        ["split", "bars", f"windows of {inspection.window_length}", "first bar", "last bar"],
        (
            [s.name, f"{s.bars:,}", f"{s.windows:,}", when(s.first_timestamp), when(s.last_timestamp)]
            for s in inspection.splits
        ),
    )
    if inspection.gaps:
        _print_table(
            "Gaps",
            ["kind", "count", "typical", "longest", "begins (UTC)", "for example, from bar to bar"],
            (
                [
                    g.kind if i == 0 else "",
                    f"{g.count:,}" if i == 0 else "",
                    format_duration(g.typical) if i == 0 else "",
                    format_duration(g.longest) if i == 0 else "",
                    ", ".join(g.begins) if i == 0 else "",
                    describe_gap(example),
                ]
                for g in inspection.gaps
                for i, example in enumerate(g.examples)
            ),
        )
        print("Nothing is ever filled in: features pass over a gap, or begin afresh where a segment ends.")
    suggestion = inspection.suggestion
    option = f"--reset-on-gap {suggestion.reset_on_gap}" if suggestion.reset_on_gap else "no --reset-on-gap"
    print(f"\nsuggested: {option}: {suggestion.why}")


def _print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, name in enumerate(header):
        numeric = i > 0 and not name.startswith(("first bar", "last bar", "begins", "for example"))
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    print()
    # Wider than any of these tables: nothing is cut to the width of a terminal, or of a pipe that has none.
    Console(width=500, markup=False, highlight=False, emoji=False).print(table)


class _Progress:
    """A bar on a terminal, once there is something to wait for; lines elsewhere; nothing with `--json`."""

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
