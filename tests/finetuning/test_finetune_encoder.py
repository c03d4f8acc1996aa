"""Fine-tuning from a pre-trained encoder: the windows seen in pre-training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from textwrap import fill

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from finetuned import CPU, FROM_ENCODER, TINY, blocks_of, examples, pretrained

import moola
from moola.errors import (
    RunError,
)
from moola.evaluation.baselines import BASELINES
from moola.folds.dealing import purged_folds
from moola.labels import LabelledWindows, read_labels
from moola.models.weights import load_weights
from moola.runs.directory import read_metrics
from moola.runs.out_of_fold import OutOfFoldRecord
from moola.settings.models import load_config
from moola.training.recipe import Recipe, without_fold
from moola.validation.permutation import HEADS_ALONE
from moola.validation.seen_bars import seen_windows

pytestmark = pytest.mark.xdist_group("finetune_run")


def test_an_encoder_of_windows_over_gaps_gives_a_note(market: Path, encoder: Path, tmp_path: Path) -> None:
    loose = moola.build_features(
        market / "bars.parquet", tmp_path / "loose", stamp="open", config={"warmup_bars": 20}
    )
    pretrained(loose, tmp_path / "encoder")
    note = "features of the labels restart after gaps over 30m, the training features never"
    for number, (start, told) in enumerate([(tmp_path / "encoder", True), (encoder, False)]):
        result = moola.finetune(
            market / "store",
            market / "labels.parquet",
            tmp_path / f"run{number}",
            encoder=start,
            **FROM_ENCODER | {"permutations": 0, "scratch": False},
        )
        assert any(line.startswith(note) for line in result.report) == told


def test_windows_seen_in_pre_training_are_marked(
    market: Path, store: moola.FeatureStore, encoder: Path, tmp_path: Path
) -> None:
    what = (market / "store", market / "labels.parquet")
    lines: list[str] = []
    given = FROM_ENCODER | {"say": lines.append, "freeze": "always"}
    result = moola.finetune(*what, tmp_path / "run", encoder=encoder, **given)
    before, after = (load_weights(of / "best.safetensors").tensors for of in (encoder, tmp_path / "run"))
    shared = [name for name in before if name.startswith("encoder.")]
    assert shared
    assert all(torch.equal(before[name], after[name]) for name in shared)
    assert {"seen", "unseen"} == set(result.evaluation["apart"])
    assert any("the encoder was pre-trained on" in line for line in result.report)
    said = moola.predict(result.run, store, split="train", stride=52)
    assert pc.all(said["seen"]).as_py()
    later = moola.predict(result.run, store, split="test", stride=52)
    assert not pc.all(later["seen"]).as_py()

    # The same model from scratch, in the same folds.
    kept = OutOfFoldRecord.load(result.run)
    assert list(kept.baselines) == [*BASELINES, "tiny from scratch"]
    name = "tiny from scratch"
    assert result.table[0] == (
        "",
        "tiny",
        "unseen",
        "seen",
        fill(HEADS_ALONE, 18),
        "permuted",
        "p",
        *BASELINES,
        name,
    )
    assert any(line.startswith(f"against {name}: ") for line in result.report)
    alone = load_config(
        {"model": TINY["model"]}, ["model.architecture.num_classes=3", "training.finetune.epochs=2"]
    )
    labels = read_labels(what[1], store)
    blocks = blocks_of(labels, store)
    parts = purged_folds(labels, 5, seed=17, store=store)
    plain = Recipe(alone, None, CPU, 17, 0.2, 0).from_scratch()
    assert plain.config.training.finetune.freeze == "none"
    first = without_fold(plain, examples(labels), blocks, *parts[0])
    (scratch,) = kept.baselines[name]
    assert scratch.probabilities is not None
    ours = scratch.probabilities[parts[0][1]]
    assert np.array_equal(ours.argmax(axis=1), first.logits.argmax(axis=1))
    assert len(read_metrics(result.run, "scratch_fold")) == 5
    assert "from scratch, fold 5 of 5: 2 epochs" in lines
    (line,) = [line for line in result.report if line.startswith("the permutation test fits")]
    assert "on the frozen encoder, with 2 shuffles" in line

    scratch_free = {"freeze": 1, "scratch": False, "permutations": 0}
    later_thawed = moola.finetune(*what, tmp_path / "thawed", encoder=encoder, **FROM_ENCODER | scratch_free)
    assert list(OutOfFoldRecord.load(later_thawed.run).baselines) == list(BASELINES)
    thawed = load_weights(later_thawed.run / "best.safetensors").tensors
    assert [record["frozen"] for record in read_metrics(later_thawed.run, "epoch")] == [1, 0]
    assert later_thawed.best_epoch == 0 or not all(torch.equal(before[name], thawed[name]) for name in shared)


def test_an_encoder_whose_pre_training_bars_are_unknown_is_refused(
    market: Path, encoder: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    shutil.copy(encoder / "best.safetensors", tmp_path / "lone.safetensors")
    what = (market / "store", labels, tmp_path / "run")
    with pytest.raises(RunError, match=r"there is no learned.json. Give the directory that moola trained in"):
        moola.finetune(*what, encoder=tmp_path / "lone.safetensors", **FROM_ENCODER)
    # With the same wording as a cross-validation.
    with pytest.raises(RunError, match=r"there is no learned.json. Give the directory that moola trained in"):
        seen_windows(tmp_path / "lone.safetensors", labels, market / "store")
    assert not (tmp_path / "run").exists()


def test_pre_cut_windows_may_all_have_been_seen(
    encoder: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    raw = replace(labels, store_id="", times=None, splits=None)
    given = FROM_ENCODER | {"permutations": 0, "scratch": False}
    result = moola.finetune(None, raw, tmp_path / "run", encoder=encoder, **given)
    assert "the encoder may have been pre-trained on bars of any of these windows" in result.report[1]
