"""Loaders over a feature store, for training scripts: train, val and test in one call.

`python -m moola.data.fast_windowed_loader --feature-dir DIR --batch-size 256` prints what they serve, and how fast.
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Literal, NamedTuple

from moola.errors import MoolaError

if TYPE_CHECKING:
    import torch

    from moola.data.dataset import StorePath
    from moola.data.device import DeviceWindowLoader

__all__ = ["Loaders", "create_fast_dataloaders", "create_strided_dataloaders", "main"]


class Loaders(NamedTuple):
    """One loader a split."""

    train: DeviceWindowLoader
    val: DeviceWindowLoader
    test: DeviceWindowLoader


def create_fast_dataloaders(
    feature_dir: StorePath | Sequence[StorePath],
    batch_size: int = 256,
    mask_ratio: float = 0.15,
    num_workers: int = 0,
    pin_memory: bool = False,
    seed: int | None = None,
    *,
    window_length: int | None = None,
    stride: int = 1,
    mask_strategy: Literal["random", "patch"] = "random",
    patch_size: int = 10,
    extra: Sequence[str] = (),
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    weights: Mapping[str, float] | None = None,
) -> Loaders:
    """Loaders of the train, val and test windows: batches `X [B, K, D]`, `mask [B, K]`, `valid_mask [B, K]`.

    Train is shuffled anew in each epoch and drops its last partial batch; val and test come in order and whole, with
    masks that never change. Each has `state_dict()` and `load_state_dict()`.

    Args:
        num_workers: Accepted for scripts that pass it, and of no effect: batches are made by threads.
        pin_memory: Whether batches are in pinned memory, where there is a GPU.
        seed: Of masks and shuffling. None draws one; `loader.dataset.seed` tells which.
        device, rank, world_size, weights: See `moola.data.device.DeviceWindowLoader`; weights are for train.

    The other arguments are those of `moola.FastWindowedDataset`, and so are the errors.
    """
    from moola.data.dataset import FastWindowedDataset, open_stores
    from moola.data.device import DeviceWindowLoader
    from moola.settings.whole_numbers import whole_number

    whole_number("num_workers", num_workers, 0)
    seed = secrets.randbits(63) if seed is None else seed
    loaders = []
    # Once, so that all three splits are of one store even while another takes its place.
    stores = open_stores(feature_dir)
    splits: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
    for split in splits:
        dataset = FastWindowedDataset(
            stores, split, window_length, stride, mask_ratio, mask_strategy, patch_size, seed, extra
        )
        train = split == "train"
        loaders.append(
            DeviceWindowLoader(
                dataset,
                batch_size,
                device=device,
                shuffle=train,
                drop_last=train,
                rank=rank,
                world_size=world_size,
                weights=weights if train else None,
                pin_memory=pin_memory,
            )
        )
    return Loaders(*loaders)


def create_strided_dataloaders(
    feature_dir: StorePath | Sequence[StorePath],
    stride: int = 52,
    batch_size: int = 256,
    mask_ratio: float = 0.15,
    num_workers: int = 0,
    pin_memory: bool = False,
    seed: int | None = None,
    *,
    window_length: int | None = None,
    mask_strategy: Literal["random", "patch"] = "random",
    patch_size: int = 10,
    extra: Sequence[str] = (),
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    weights: Mapping[str, float] | None = None,
) -> Loaders:
    """:func:`create_fast_dataloaders` with every `stride`-th window alone, so that neighbours share fewer bars."""
    return create_fast_dataloaders(
        feature_dir,
        batch_size,
        mask_ratio,
        num_workers,
        pin_memory,
        seed,
        window_length=window_length,
        stride=stride,
        mask_strategy=mask_strategy,
        patch_size=patch_size,
        extra=extra,
        device=device,
        rank=rank,
        world_size=world_size,
        weights=weights,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints what the loaders of a store serve, and how fast."""
    parser = argparse.ArgumentParser(
        prog="python -m moola.data.fast_windowed_loader",
        description="Serve the windows of a feature store, and say how fast.",
    )
    parser.add_argument(
        "--feature-dir", required=True, nargs="+", metavar="DIR", help="a feature store, or several"
    )
    parser.add_argument("--batch-size", type=int, default=256, help="windows in a batch (default: 256)")
    parser.add_argument("--stride", type=int, default=1, help="bars from one window to the next (default: 1)")
    parser.add_argument("--window-length", type=int, help="bars in a window (default: the store's)")
    parser.add_argument("--mask-ratio", type=float, default=0.15, help="share of bars masked (default: 0.15)")
    parser.add_argument("--seed", type=int, default=0, help="of masks and shuffling (default: 0)")
    parser.add_argument("--device", default="cpu", help="where batches are to be (default: cpu)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to serve train for (default: 2)")
    options = parser.parse_args(arguments)
    import torch

    try:
        # Not counting the import of torch.
        started = perf_counter()
        loaders = create_fast_dataloaders(
            options.feature_dir,
            options.batch_size,
            options.mask_ratio,
            seed=options.seed,
            window_length=options.window_length,
            stride=options.stride,
            device=options.device,
        )
        first = next(iter(loaders.train), None)
        took = perf_counter() - started
    except (MoolaError, OSError) as error:
        parser.exit(1, f"error: {error}\n")

    def synchronize() -> None:
        if loaders.train.device.type == "cuda":
            torch.cuda.synchronize()

    dataset = loaders.train.dataset
    print(f"windows of {dataset.window_length} bars, {len(dataset.feature_names)} features: ", end="")
    print(", ".join(dataset.feature_names))
    for name, loader in loaders._asdict().items():
        print(
            f"{name:>5}: {len(loader.dataset):>13,} windows, {len(loader):>11,} batches of {loader.batch_size}"
        )
    if first is None:
        print("train has no full batch: nothing to serve")
        return
    print(f"opened, and the first batch served, in {1000 * took:.1f} ms")
    batches = masked = valid = 0
    started = perf_counter()
    while perf_counter() - started < options.seconds:
        for _, mask, valid_mask in loaders.train:
            batches += 1
            if batches % 16 == 1:
                masked, valid = masked + int(mask.sum()), valid + int(valid_mask.sum())
            if perf_counter() - started >= options.seconds:
                break
    synchronize()
    took = perf_counter() - started
    size = sum(tensor.nbytes for tensor in first)
    print(
        f"served {batches:,} shuffled batches with {100 * masked / valid:.1f} % of bars masked in {took:.2f} s: "
        f"{batches * loaders.train.batch_size / took:,.0f} windows/s, {batches * size / took / 1e9:.2f} GB/s"
    )


if __name__ == "__main__":
    main()
