"""Paths of 0.1 whose modules have moved: every public name still exists, and a warning gives its new path."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys

import pytest

import moola.moved

# The public names of the modules of 0.1.0 that have moved. They go in 0.3.0.
PUBLIC = {
    "moola.augment.config": "AugmentationConfig JitterConfig MagnitudeWarpConfig TimeWarpConfig",
    "moola.build": "Progress build_features",
    "moola.cache": "cached_store store_cache",
    "moola.classifier": "JadeClassifier",
    "moola.clocks": "Clock DateOrder EPOCH_FIRST texts_of whole_numbers",
    "moola.columns": (
        "ALIASES BAR_ROLES Layout PRICES ROLES find_column find_layout listed named_columns no_zone"
    ),
    "moola.config": "FeatureConfig feature_config parse_config parse_duration read_yaml",
    "moola.cores": "usable_cores",
    "moola.embedding": "embed",
    "moola.ensembles": "RunEnsemble combine_runs",
    "moola.evaluation.null": (
        "Null PERMUTATIONS Scoring Shuffled movable orders permutation_null permute_groups under_shuffles"
    ),
    "moola.evaluation.out_of_fold": "check_splits fit_predict fold_numbers out_of_fold",
    "moola.formats": (
        "BATCH_ROWS CsvInput Input StreamInput find_files is_temporal is_text is_type nulls_of open_file "
        "text_of values_of"
    ),
    "moola.inspection": (
        "FeatureSummary Gap GapGroup Inspection SplitSummary Suggestion format_duration inspect_store"
    ),
    "moola.layout": (
        "Array CHECKSUMS Description FORMAT_VERSION METADATA SPLITS arrays_of describe dump_checksums "
        "dump_json features_file parse_checksums parse_json write_checksums write_json"
    ),
    "moola.lazy": "lazy_names",
    "moola.members": "KINDS PooledTrees RandomKernels TemporalConvolution make_member",
    "moola.members.convolutional": "TemporalConvolution",
    "moola.members.kernels": "RandomKernels",
    "moola.members.kinds": "KINDS make_member",
    "moola.members.trees": "PooledTrees",
    "moola.members.windows": "Standardiser check_training check_windows",
    "moola.models.config": (
        "Architecture Config FinetuneConfig GatesConfig ModelConfig PretrainConfig TrainingConfig "
        "load_config shipped_models"
    ),
    "moola.publish": "UNFINISHED publishing replacing_file write_file",
    "moola.splitters": "CombinatorialPurgedKFold PurgedKFold WalkForward assert_no_shared_bars",
    "moola.synth": "SampleMarket make_bars",
    "moola.training.chance": "heads_on_shuffled_labels told",
    "moola.training.checkpoints": "Checkpoints optimizer_tensors restore_optimizer",
    "moola.training.compare": "Comparison Figure compare_runs",
    "moola.training.devices": "Placement forget_peak_memory peak_memory place ranks",
    "moola.training.finetune": (
        "EpochRecord Examples FitResult augmentation_for check_shape fit_jade freeze_layers "
        "frozen_layers new_model span_targets spread_of_last"
    ),
    "moola.training.finetune_run": "FinetuneResult finetune",
    "moola.training.held_out": "FoldLogits HeldOut OUT_OF_FOLD",
    "moola.training.inputs": "hides_bars standardise_extra standardise_kept training_bars",
    "moola.training.learned": "LearnedBars MAY_HAVE_SEEN_ALL",
    "moola.training.parallel": "in_order",
    "moola.training.pretrain": "PretrainResult learning_rate pretrain",
    "moola.training.runs": "Run environment new_directory read_record write_record",
    "moola.training.threads": "one_thread",
    "moola.validation.folds": (
        "StorePath TrainTest check_comparable check_purged open_labelled_store purged_folds"
    ),
    "moola.validation.luck": "DEAR_PERMUTATIONS HEADS_ALONE Luck frozen is_dear luck_of lucks_of",
    "moola.validation.seen": "seen_windows",
    "moola.verify": "Check VerificationReport verify_features",
    "moola.window_table": "TIME TableWindows WindowTable write_parquet",
}


def test_every_moved_module_is_in_the_list() -> None:
    assert set(PUBLIC) == set(moola.moved._MOVED)


@pytest.mark.parametrize("module", PUBLIC)
@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_a_moved_module_has_its_names_and_warns(module: str) -> None:
    sys.modules.pop(module, None)
    with pytest.warns(DeprecationWarning, match=rf"^{module} has moved to .*; the old path goes in 0\.3\.0$"):
        old = importlib.import_module(module)
    missing = [name for name in PUBLIC[module].split() if not hasattr(old, name)]
    assert not missing
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = old.no_such_name


def test_a_moved_module_of_a_functions_name_can_still_be_called() -> None:
    code = (
        "import warnings; warnings.simplefilter('ignore'); import moola.training.pretrain; "
        "from moola.training import pretrain; print(callable(pretrain))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_objects_pickled_under_an_old_path_load() -> None:
    old = b"cmoola.config\nFeatureConfig\n."
    sys.modules.pop("moola.config", None)
    with pytest.warns(DeprecationWarning, match="moola.settings.features"):
        assert pickle.loads(old) is moola.FeatureConfig


def test_importing_moola_gives_no_warning() -> None:
    code = "import moola; [getattr(moola, name) for name in moola.__all__]"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
