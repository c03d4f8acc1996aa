"""Import paths of 0.1 whose modules have moved. They work until 0.3.0, with a `DeprecationWarning`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["install"]

# Each old module, and the modules that hold its names now.
_MOVED: Mapping[str, tuple[str, ...]] = {
    "moola.augment.config": ("moola.settings.augmentation",),
    "moola.build": (
        "moola.store.build",
        "moola.store.ingest",
        "moola.store.known_after",
        "moola.settings.feature_sets",
    ),
    "moola.cache": ("moola.store.cache",),
    "moola.classifier": ("moola.estimators.jade",),
    "moola.clocks": ("moola.bars.times",),
    "moola.columns": ("moola.bars.columns", "moola.bars.roles"),
    "moola.config": (
        "moola.settings.features",
        "moola.settings.sections",
        "moola.settings.durations",
        "moola.settings.yaml",
    ),
    "moola.cores": ("moola.files.cores",),
    "moola.embedding": ("moola.prediction.embedding",),
    "moola.ensembles": ("moola.prediction.ensembles",),
    "moola.evaluation.null": ("moola.evaluation.permutation",),
    "moola.evaluation.out_of_fold": ("moola.evaluation.fold_predictions",),
    "moola.formats": (
        "moola.bars.formats.opening",
        "moola.bars.formats.inputs",
        "moola.bars.formats.stream",
        "moola.bars.formats.files",
        "moola.bars.formats.finding",
        "moola.bars.formats.parquet",
        "moola.bars.formats.arrow",
        "moola.bars.formats.csv",
    ),
    "moola.inspection": (
        "moola.store.inspect.summary",
        "moola.store.inspect.gaps",
        "moola.store.inspect.breaks",
        "moola.store.inspect.suggestion",
        "moola.store.inspect.durations",
    ),
    "moola.layout": ("moola.store.layout", "moola.files.json"),
    "moola.lazy": ("moola.files.lazy",),
    "moola.members": ("moola.estimators",),
    "moola.members.convolutional": ("moola.estimators.convolutional",),
    "moola.members.kernels": ("moola.estimators.rocket",),
    "moola.members.kinds": ("moola.estimators.kinds",),
    "moola.members.trees": ("moola.estimators.boosted_trees",),
    "moola.members.windows": ("moola.estimators.windows",),
    "moola.models.config": ("moola.settings.models", "moola.settings.training", "moola.settings.gates"),
    "moola.publish": ("moola.files.publishing",),
    "moola.splitters": (
        "moola.folds.base",
        "moola.folds.windows",
        "moola.folds.walk_forward",
        "moola.folds.purged",
        "moola.folds.combinatorial",
        "moola.folds.shared_bars",
    ),
    "moola.synth": ("moola.bars.market",),
    "moola.training.chance": ("moola.finetuning.permutation",),
    "moola.training.checkpoints": ("moola.runs.checkpoints",),
    "moola.training.compare": ("moola.runs.compare",),
    "moola.training.devices": ("moola.devices.placement",),
    "moola.training.finetune": (
        "moola.training.fitting",
        "moola.training.examples",
        "moola.training.targets",
        "moola.training.new_model",
    ),
    "moola.training.finetune_run": ("moola.finetuning.run", "moola.finetuning.inputs"),
    "moola.training.held_out": ("moola.runs.out_of_fold",),
    "moola.training.inputs": ("moola.models.training_bars",),
    "moola.training.learned": ("moola.runs.seen_bars",),
    "moola.training.parallel": ("moola.devices.ranks",),
    "moola.training.pretrain": ("moola.training.pretraining", "moola.training.step", "moola.training.log"),
    "moola.training.runs": ("moola.runs.directory",),
    "moola.training.threads": ("moola.devices.threads",),
    "moola.validation.folds": ("moola.folds.dealing",),
    "moola.validation.luck": ("moola.validation.permutation",),
    "moola.validation.seen": ("moola.validation.seen_bars",),
    "moola.verify": (
        "moola.store.verify.report",
        "moola.store.verify.findings",
        "moola.store.verify.recorded",
        "moola.store.verify.rows",
        "moola.store.verify.windows",
        "moola.store.verify.files",
        "moola.store.verify.values",
        "moola.store.verify.times",
        "moola.store.verify.splits",
        "moola.store.verify.recompute",
        "moola.store.verify.source",
    ),
    "moola.window_table": ("moola.prediction.rows",),
}

# Names that were renamed on the way: by old path, the name that the homes have now.
_RENAMED: Mapping[str, str] = {
    "moola.training.held_out.HeldOut": "OutOfFoldRecord",
    "moola.training.learned.LearnedBars": "SeenBars",
    "moola.training.runs.LEARNED": "SEEN_BARS",
    "moola.training.runs.read_learned": "read_seen_bars",
    "moola.window_table.TableWindows": "RowWindows",
    "moola.window_table.WindowTable": "PredictionRows",
    "moola.evaluation.null.Null": "PermutationTest",
    "moola.evaluation.null.permutation_null": "permutation_test",
    "moola.validation.luck.Luck": "PermutationResult",
    "moola.validation.luck.luck_of": "permutation_test_of",
    "moola.validation.luck.lucks_of": "permutation_tests",
}


class _MovedModule(ModuleType):
    """Stands for a module that has moved: each name is looked up where it lives now.

    Python enters an imported module into its package under its last name. Where the package has a function of that
    name, such as `moola.training.pretrain`, calling the module calls the function, and the first name that is taken
    from the module gives the package its function back.
    """

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            package, _, own = self.__name__.rpartition(".")
            if vars(sys.modules[package]).get(own) is self and own in getattr(
                sys.modules[package], "__all__", ()
            ):
                delattr(sys.modules[package], own)
            name = _RENAMED.get(f"{self.__name__}.{name}", name)
            for home in _MOVED[self.__name__]:
                module = importlib.import_module(home)
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _MovedLoader:
    # Not a subclass of `importlib.abc.Loader`, whose import takes as long as all of `import moola`.

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _MovedModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        import warnings

        homes = " and ".join(_MOVED[module.__name__])
        # The caller's line: past this frame and those of the import system, which Python leaves out by itself.
        warnings.warn(
            f"{module.__name__} has moved to {homes}; the old path goes in 0.3.0",
            DeprecationWarning,
            stacklevel=2,
        )


class _MovedFinder:
    """Finds modules that have moved. It comes last, so it costs nothing where a module exists."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _MOVED:
            return None
        return ModuleSpec(fullname, _MovedLoader(), is_package=fullname == "moola.members")  # type: ignore[arg-type]


def install() -> None:
    """Lets the old paths be imported. A second call changes nothing."""
    if not any(isinstance(finder, _MovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(_MovedFinder())
