"""The command that serves the windows of a store and measures the speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from moola.cli.app import Json, app, print_json

if TYPE_CHECKING:
    from moola.data.throughput import OpenedLoaders, Throughput

__all__ = ["serve_windows"]


@app.command()
def serve_windows(
    feature_dir: Annotated[
        list[str], typer.Option(metavar="DIR", help="A feature store. Repeat it for several.")
    ],
    batch_size: Annotated[int, typer.Option(help="Windows in a batch.")] = 256,
    stride: Annotated[int, typer.Option(help="Bars from one window to the next.")] = 1,
    window_length: Annotated[
        int | None, typer.Option(help="Bars in a window.", show_default="the store's")
    ] = None,
    mask_ratio: Annotated[float, typer.Option(help="Share of bars to mask.")] = 0.15,
    seed: Annotated[int, typer.Option(help="Seed of masks and shuffling.")] = 0,
    device: Annotated[str, typer.Option(help="Device to move batches to.")] = "cpu",
    seconds: Annotated[float, typer.Option(help="How long to serve the train split, in seconds.")] = 2.0,
    json: Json = False,
) -> None:
    """Serve the windows of a feature store as in training, and measure the speed."""
    from moola.data.throughput import check_seconds, measure_throughput, open_loaders

    seconds = check_seconds(seconds)
    opened = open_loaders(
        feature_dir,
        batch_size,
        mask_ratio=mask_ratio,
        seed=seed,
        window_length=window_length,
        stride=stride,
        device=device,
    )
    if not json:
        _print_opened(opened)
    served = None if opened.seconds is None else measure_throughput(opened.loaders.train, seconds)
    if json:
        print_json(_record(opened, served))
    elif served is not None:
        print(
            f"served {served.batches:,} shuffled batches with {100 * served.masked:.1f} % of bars masked in "
            f"{served.seconds:.2f} s: {served.windows_per_second:,.0f} windows/s, "
            f"{served.bytes_per_second / 1e9:.2f} GB/s"
        )


def _print_opened(opened: OpenedLoaders) -> None:
    dataset = opened.loaders.train.dataset
    names = dataset.feature_names
    print(f"windows of {dataset.window_length} bars, {len(names)} features: {', '.join(names)}")
    for name, loader in opened.loaders._asdict().items():
        print(
            f"{name:>5}: {len(loader.dataset):>13,} windows, {len(loader):>11,} batches of {loader.batch_size}"
        )
    if opened.seconds is None:
        print("train has no full batch: nothing to serve")
    else:
        print(f"opened, and the first batch served, in {1000 * opened.seconds:.1f} ms")


def _record(opened: OpenedLoaders, served: Throughput | None) -> dict[str, object]:
    dataset = opened.loaders.train.dataset
    splits = {
        name: {"windows": len(loader.dataset), "batches": len(loader)}
        for name, loader in opened.loaders._asdict().items()
    }
    rates = None
    if served is not None:
        rates = {
            "batches": served.batches,
            "seconds": served.seconds,
            "masked": served.masked,
            "windows_per_second": served.windows_per_second,
            "bytes_per_second": served.bytes_per_second,
        }
    return {
        "window_length": dataset.window_length,
        "features": list(dataset.feature_names),
        "batch_size": opened.loaders.train.batch_size,
        "splits": splits,
        "first_batch_seconds": opened.seconds,
        "served": rates,
    }
