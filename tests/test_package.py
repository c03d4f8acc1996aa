"""What users install: the wheel, the source archive, and the cost of an import."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from time import perf_counter

import pytest

import moola

ROOT = Path(__file__).parents[1]

# What must not come with a plain `import moola`: slow to load, or not needed by whoever wants something else.
HEAVY = ("pandas", "polars", "pyarrow", "pydantic", "rich", "ruamel", "scipy", "sklearn", "torch", "typer")

# One of the processes of pytest-xdist builds the wheel.
wheel_group = pytest.mark.xdist_group("wheel")


def run(*command: str | Path, **env: str) -> str:
    result = subprocess.run(command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree. Quick if moola was already built in release mode from the same sources."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--release", "--locked", "--quiet", "--interpreter", sys.executable]
    # Two concurrent builds would take the library from each other.
    with open(ROOT / "target" / ".one-build-at-a-time", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(sys.executable, "-m", "maturin", "build", *options, "--out", folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


@wheel_group
def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        licences = {name.rpartition("/")[2]: archive.read(name) for name in names if "/licenses/" in name}
    package = {name.removeprefix("moola/") for name in names if name.startswith("moola/")}
    sources = ROOT / "python" / "moola"
    shipped = {path.relative_to(sources).as_posix() for path in sources.rglob("*") if path.is_file()}
    shipped = {name for name in shipped if "__pycache__" not in name and not name.endswith(".so")}
    assert {"py.typed", "_core.pyi", "__init__.py"} <= shipped
    assert {name for name in package if not name.endswith(".so")} == shipped
    assert [name for name in package if name.endswith(".so")] == ["_core.abi3.so"]
    assert all(name.startswith(("moola/", f"moola-{moola.__version__}.dist-info/")) for name in names)
    assert licences == {name: (ROOT / name).read_bytes() for name in ("LICENSE-MIT", "LICENSE-APACHE")}
    assert b"the moola authors" in licences["LICENSE-MIT"]
    assert b"END OF TERMS AND CONDITIONS" in licences["LICENSE-APACHE"]


@wheel_group
def test_wheel_serves_every_python_from_3_11_on(wheel: Path, metadata: Message) -> None:
    assert wheel.name.startswith(f"moola-{moola.__version__}-cp311-abi3-")
    assert metadata["Requires-Python"] == ">=3.11"


@wheel_group
def test_package_metadata_is_complete(metadata: Message) -> None:
    assert metadata["Name"] == "moola"
    assert metadata["License-Expression"] == "MIT OR Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE-MIT", "LICENSE-APACHE"]
    assert metadata["Description-Content-Type"].startswith("text/markdown")
    assert metadata.get_payload().startswith("# moola")
    needed = {requirement.split(">")[0] for requirement in metadata.get_all("Requires-Dist")}
    assert needed == {
        "joblib",
        "matplotlib",
        "numpy",
        "optuna",
        "pyarrow",
        "pydantic",
        "rich",
        "ruamel-yaml",
        "safetensors",
        "scikit-learn",
        "scipy",
        "tensorboard",
        "threadpoolctl",
        "torch",
        "typer",
    }
    assert metadata.get_all("Provides-Extra") == ["tensorboard"]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment that holds only the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
    return folder / "bin"


def test_configurations_are_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {
        "moola/settings/configs/model/jade.yaml",
        "moola/settings/configs/model/jade_compact.yaml",
    } <= set(names)


def check_feature_commands(installed: Path, folder: Path, dependencies: str) -> None:
    command = installed / "moola"
    assert run(command, "--version", PYTHONPATH=dependencies).split()[-1] == moola.__version__
    run(command, "make-bars", folder / "bars.parquet", "--bars", "2000", PYTHONPATH=dependencies)
    run(
        *(command, "build-features", "--data", folder / "bars.parquet", "--output", folder / "store"),
        PYTHONPATH=dependencies,
    )
    report = run(
        *(command, "verify-features", "--feature-dir", folder / "store", "--json"),
        PYTHONPATH=dependencies,
    )
    assert json.loads(report)["ok"] is True
    assert "relativity10" in run(command, "inspect", folder / "store", PYTHONPATH=dependencies)


@wheel_group
def test_wheel_works_in_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    # The dependencies come from here. `.pth` files do nothing on PYTHONPATH: the editable moola stays away.
    dependencies = sysconfig.get_path("purelib")
    code = "import moola, sys; moola.FeatureStream().push(100.0, 100.5, 99.5, 100.25); print(moola.__file__)"
    where = run(installed / "python", "-W", "error", "-c", code, PYTHONPATH=dependencies)
    assert Path(where.strip()).is_relative_to(installed.parent)
    check_feature_commands(installed, tmp_path, dependencies)
    code = "import sys; from moola import FastWindowedDataset; print(FastWindowedDataset(sys.argv[1])[0][0].shape)"
    served = run(
        *(installed / "python", "-W", "error", "-c", code, tmp_path / "store"), PYTHONPATH=dependencies
    )
    assert served.strip() == "torch.Size([105, 10])"
    loader = (
        "-m",
        "moola.data.fast_windowed_loader",
        "--feature-dir",
        tmp_path / "store",
        "--seconds",
        "0.1",
    )
    assert "windows/s" in run(installed / "python", *loader, PYTHONPATH=dependencies)


@wheel_group
def test_features_are_built_where_torch_is_missing(installed: Path, tmp_path: Path) -> None:
    """As after `pip install --no-deps`, on a machine with only the packages that features need."""
    dependencies = tmp_path / "dependencies"
    dependencies.mkdir()
    without = (
        "torch",
        "functorch",
        "torchgen",
        "nvidia",
        "triton",
        "sklearn",
        "scikit_learn",
        "scipy",
        "moola",
    )
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(without):
            (dependencies / entry.name).symlink_to(entry)
    check_feature_commands(installed, tmp_path, str(dependencies))
    for command in (
        ("-c", "from moola import FastWindowedDataset"),
        ("-c", "import moola.data.windowed_loader"),
        ("-m", "moola.data.fast_windowed_loader", "--feature-dir", tmp_path / "store"),
    ):
        result = subprocess.run(
            [installed / "python", *command],
            env=os.environ | {"PYTHONPATH": str(dependencies)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1].startswith("ImportError: serving windows needs torch")
        assert "`pip install 'torch>=2.2'`" in result.stderr


@wheel_group
def test_source_archive_can_be_built_from(tmp_path: Path) -> None:
    run(sys.executable, "-m", "maturin", "sdist", "--out", tmp_path)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    engine = ROOT / "rust"
    sources = {path.relative_to(ROOT).as_posix() for path in engine.glob("*/src/**/*.rs")}
    assert len(sources) > 10
    assert sources <= names
    assert {
        "Cargo.toml",
        "Cargo.lock",
        "pyproject.toml",
        "README.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
    } <= names


def test_import_brings_nothing_heavy() -> None:
    code = "import json, sys, moola; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    loaded = json.loads(run(sys.executable, "-c", code))
    assert "moola" in loaded
    assert set(loaded).isdisjoint(HEAVY)


def test_torch_is_imported_only_by_names_that_need_it() -> None:
    need = ["FastWindowedDataset", "JadeClassifier", "finetune", "predict"]
    code = (
        f"import sys, moola; [getattr(moola, name) for name in moola.__all__ if name not in {need}]; "
        "import moola.cli; print('torch' in sys.modules); moola.FastWindowedDataset; print('torch' in sys.modules)"
    )
    assert run(sys.executable, "-c", code).split() == ["False", "True"]


def test_names_are_lazy_and_complete() -> None:
    assert set(moola.__all__) <= set(dir(moola))
    with pytest.raises(AttributeError, match="no attribute 'build_feature'"):
        _ = moola.build_feature


def test_import_is_quick() -> None:
    """At most 0.3 s in the best of several fresh processes, so that a busy machine does not fail it."""

    def best(code: str) -> float:
        times = []
        for _ in range(5):
            started = perf_counter()
            run(sys.executable, "-c", code)
            times.append(perf_counter() - started)
        return min(times)

    assert best("import moola") - best("pass") <= 0.3
