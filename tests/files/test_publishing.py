"""Publishing: what readers and the directory see, whether builders finish, fail or are killed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tiny_store import build, names, value, write_files

from moola.errors import (
    BuildConflictError,
    ConfigError,
    MoolaError,
    StoreError,
    StoreExistsError,
    StoreMissingError,
    StoreWriteError,
)
from moola.files.publishing import publishing
from moola.store import FeatureStore

# One builder


def test_a_store_appears_whole_and_without_leftovers(tmp_path):
    path = tmp_path / "store"
    with publishing(path) as staging:
        assert staging.path.parent == tmp_path
        assert staging.path.name.startswith(".store.")
        assert staging.path.name.endswith(".moola-tmp")
        assert staging.store == path
        assert os.stat(staging.path).st_dev == os.stat(tmp_path).st_dev
        write_files(staging.path, fill=1)
        assert names(tmp_path) == [staging.path.name]
        with pytest.raises(StoreMissingError):
            FeatureStore.open(path)
    assert names(tmp_path) == ["store"]
    assert value(path) == 1


def test_relative_paths_start_at_the_initial_directory(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with publishing("store") as staging:
        write_files(staging.path, fill=1)
        monkeypatch.chdir(tmp_path)
    assert names(tmp_path) == ["here"]
    assert value(tmp_path / "here" / "store") == 1


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_any_exception_removes_what_was_built(tmp_path, kind):
    error = kind("why")

    def fail(folder: Path) -> None:
        write_files(folder)
        (folder / "deeper").mkdir()
        raise error

    with pytest.raises(kind) as caught, publishing(tmp_path / "a" / "store") as staging:
        fail(staging.path)
    assert caught.value is error
    assert names(tmp_path) == []


def test_a_store_is_replaced_on_request_only(tmp_path):
    path = tmp_path / "store"
    old = build(path, fill=1)
    with pytest.raises(StoreExistsError, match=r"feature store already.*pass --overwrite") as caught:
        publishing(path)
    assert isinstance(caught.value, FileExistsError)
    build(path, fill=2, overwrite=True).close()
    assert value(path) == 2
    assert (old.features == 1).all(), "whoever has the old one open keeps it"
    assert names(tmp_path) == ["store"]
    with pytest.raises(TypeError), publishing(path, overwrite=True) as staging:
        write_files(staging.path, fill=3, lengths=None)
    assert value(path) == 2
    assert names(tmp_path) == ["store"]


@pytest.mark.parametrize("layout", ["bars", "windows"])
def test_every_layout_is_known_as_a_store_even_when_damaged(tmp_path, layout):
    path = tmp_path / "store"
    build(path, layout=layout, extra=1).close()
    (path / "bars.npy").write_bytes(b"damaged")
    (path / "splits.json").unlink()
    build(path, fill=4, overwrite=True).close()
    assert value(path) == 4


def test_only_a_store_is_replaced(tmp_path):
    path = tmp_path / "store"
    real = tmp_path / "real"
    build(real, fill=1).close()

    def with_a_note():
        shutil.copytree(real, path)
        (path / "notes.txt").write_text("mine")

    for make, message in [
        (lambda: path.write_text("mine"), "there is a file of this name"),
        (path.mkdir, "there is an empty directory of this name"),
        (lambda: path.symlink_to(real), "there is a symbolic link of this name"),
        (lambda: path.symlink_to("nowhere"), "there is a symbolic link of this name"),
        (lambda: os.mkfifo(path), "neither file nor directory"),
        (with_a_note, 'with "notes.txt" in it'),
    ]:
        make()
        before = names(tmp_path)
        for overwrite in (False, True):
            with pytest.raises(StoreExistsError, match=message) as caught:
                publishing(path, overwrite=overwrite)
            assert "Choose another name, or move it away; only a moola store" in str(caught.value)
        assert names(tmp_path) == before
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    assert value(real) == 1


def test_names_not_allowed_for_stores_are_refused(tmp_path):
    for name in (
        "",
        "/",
        "..",
        tmp_path / "..",
        tmp_path / ("n" * 240),
        tmp_path / ".x.12345678.moola-tmp",
    ):
        with pytest.raises(ConfigError, match="output: "):
            publishing(name)
    assert names(tmp_path) == []


def test_unwritable_places_are_errors(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreWriteError, match=r"Not a directory.*Choose a place below a directory") as caught:
        publishing(tmp_path / "file" / "store")
    assert caught.value.errno == errno.ENOTDIR
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(StoreWriteError, match="No such file or directory"):
        publishing(tmp_path / "dangling" / "store")
    if os.geteuid() == 0:
        # Root may write anywhere but here.
        with pytest.raises(StoreWriteError, match=r"cannot be written: .*\. [A-Z]"):
            publishing("/proc/store")
    else:
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(StoreWriteError, match=r"Permission denied.*Ask for permission") as caught:
            publishing(tmp_path / "closed" / "store")
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == errno.EACCES


def test_errors_about_other_files_are_left_alone(tmp_path):
    with pytest.raises(PermissionError) as caught, publishing(tmp_path / "store"):
        raise PermissionError(errno.EACCES, "Permission denied", "bars.parquet")
    assert not isinstance(caught.value, MoolaError)
    with (
        pytest.raises(StoreWriteError, match=r"cannot be written: Input/output error \(bars.npy\); .* Check"),
        publishing(tmp_path / "store") as staging,
    ):
        raise OSError(errno.EIO, "Input/output error", str(staging.path / "bars.npy"))
    assert names(tmp_path) == []


# Full disks


def test_a_limit_on_file_sizes_is_an_error(tmp_path, scripts, environment):
    path = tmp_path / "store"
    build(path, fill=1).close()
    command = [sys.executable, scripts / "exceed_file_size.py", path]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "cannot be written: File too large" in result.stdout
    assert "Raise the limit on file sizes" in result.stdout
    assert names(tmp_path) == ["store"]
    assert value(path) == 1


def test_a_full_disk_is_an_error(tmp_path, scripts, environment):
    # A small file system that only this process sees, and that ends with it.
    alone = ["unshare", "--mount", "--user", "--map-root-user", "sh", "-ec"]
    mount = "mount -t tmpfs -o size=256k tmpfs $1"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*alone, mount, "-", tmp_path], check=False).returncode
    ):
        pytest.skip("no file system can be mounted here; the limit on file sizes is tested above")
    script = f'{mount}; exec "$2" "$3" "$1"'
    command = [*alone, script, "-", str(tmp_path), sys.executable, scripts / "fill_disk.py"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr


# Killed and interrupted builders


def test_leftovers_of_killed_builders_are_cleared(tmp_path, start_builder):
    path = tmp_path / "store"
    for attempt in range(3):
        builder = start_builder(path, 1, 500)
        builder.go()
        builder.expect("ready", "building", "written")
        builder.kill()
        assert not path.exists()
        assert len(names(tmp_path)) == 1, f"the leftovers of attempt {attempt}, and of no earlier one"
    build(path, fill=2).close()
    assert names(tmp_path) == ["store"]


def test_a_live_builder_is_left_alone(tmp_path, start_builder):
    path = tmp_path / "store"
    builder = start_builder(path, 1, 500)
    builder.go()
    builder.expect("ready", "building", "written")
    build(path, fill=2).close()
    assert len(names(tmp_path)) == 2
    builder.go()
    assert builder.end() == "BuildConflictError"
    assert names(tmp_path) == ["store"]
    assert value(path) == 2


def test_killed_at_any_moment_a_build_leaves_the_old_store_or_the_new(tmp_path, start_builder):
    path = tmp_path / "store"
    build(path, fill=0).close()
    begin = time.perf_counter()
    build(path, fill=0, overwrite=True).close()
    whole = time.perf_counter() - begin
    outcomes = {0.0}
    previous = 0.0
    # On a machine that has become busier a build takes longer, so the last ones get more time.
    waits = [whole * (k % 20) / 8 for k in range(38)] + [20 * whole, max(2.0, 60 * whole)]
    for k, wait in enumerate(waits, 1):
        builder = start_builder(path, k, overwrite=True)
        builder.expect("ready")
        builder.go()
        # From the first steps of the build to after its end.
        time.sleep(wait)
        builder.kill()
        now = value(path)
        assert now in (previous, k), "a whole store, the old or the new"
        outcomes.add(now)
        previous = now
        others = [name for name in names(tmp_path) if name != "store"]
        # Two if the build was killed while it tested the exchange of two directories.
        assert len(others) <= 2, "the next build clears what the last has left"
    assert len(outcomes) > 1, "some builds came to their end"
    assert len(outcomes) < 41, "and some did not"
    build(path, fill=50, overwrite=True).close()
    assert names(tmp_path) == ["store"]


def test_leftovers_of_a_kill_between_exchange_and_removal_are_cleared(tmp_path):
    path = tmp_path / "store"
    build(path, fill=2).close()
    # What such a kill leaves: the new store in its place, and the old one under a temporary name.
    build(tmp_path / "old", fill=1).close()
    (tmp_path / "old").rename(tmp_path / ".store.0a1b2c3d.moola-tmp")
    assert value(path) == 2
    with pytest.raises(StoreExistsError):
        publishing(path)
    assert names(tmp_path) == ["store"], "even a refused build clears it"


def test_ctrl_c_stops_a_builder_and_leaves_nothing(tmp_path, start_builder):
    path = tmp_path / "store"
    for k in range(12):
        builder = start_builder(path, 1, 20_000)
        builder.go()
        builder.expect("ready", "building")
        if k % 3:
            builder.expect("written")
        if k % 3 == 2:
            builder.go()
        time.sleep(k * 0.0005)
        took, word = builder.interrupt()
        assert took < 0.5
        # If it comes after the store has its name, the store is whole.
        if path.exists():
            assert value(path) == 1
            shutil.rmtree(path)
        else:
            assert word == "KeyboardInterrupt"
        assert names(tmp_path) == []


def test_a_forked_child_does_not_publish_or_remove(tmp_path):
    path = tmp_path / "store"
    with publishing(path) as staging:
        write_files(staging.path, fill=1)
        child = os.fork()
        if child == 0:
            # The child leaves the block by an exception; its parent's directory is not its own.
            with contextlib.suppress(RuntimeError):
                staging.__exit__(RuntimeError, RuntimeError(), None)
            del staging
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert staging.path.exists()
    assert value(path) == 1


def test_a_lock_ends_with_the_build_even_if_a_child_lives(tmp_path):
    path = tmp_path / "store"
    build(path, fill=1).close()
    with publishing(path, overwrite=True) as staging:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        write_files(staging.path, fill=2)
    try:
        build(path, fill=3, overwrite=True).close()
        assert value(path) == 3
        assert names(tmp_path) == ["store"]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# Many builders and readers


@pytest.mark.parametrize("parent", [".", "new/parents"])
def test_one_of_32_builders_of_one_name_wins(tmp_path, parent, start_builder):
    path = tmp_path / parent / "store"
    builders = [start_builder(path, k) for k in range(32)]
    for builder in builders:
        builder.expect("ready")
    for builder in builders:
        builder.go()
    words = [builder.end() for builder in builders]
    winners = [k for k, word in enumerate(words) if word == "published"]
    assert len(winners) == 1
    assert set(words) <= {"published", "BuildConflictError", "StoreExistsError"}
    assert value(path) == winners[0]
    assert names(path.parent) == ["store"]


def test_one_of_many_simultaneous_builders_wins(tmp_path, start_builder):
    """All are building when the first publishes, so none is refused at the start."""
    path = tmp_path / "store"
    builders = [start_builder(path, k, 100) for k in range(8)]
    for builder in builders:
        builder.go()
        builder.expect("ready", "building", "written")
    for builder in builders:
        builder.go()
    words = [builder.end() for builder in builders]
    assert sorted(words) == ["BuildConflictError"] * 7 + ["published"]
    assert value(path) == words.index("published")
    assert names(tmp_path) == ["store"]


def test_only_one_builder_replaces_a_store(tmp_path):
    path = tmp_path / "store"
    build(path, fill=1).close()
    with publishing(path, overwrite=True) as staging:
        write_files(staging.path, fill=2)
        with pytest.raises(
            BuildConflictError, match=r"another process is replacing this store. Wait"
        ) as caught:
            publishing(path, overwrite=True)
        assert isinstance(caught.value, StoreError)
        assert not isinstance(caught.value, OSError)
    assert value(path) == 2
    assert names(tmp_path) == ["store"]


def test_a_store_that_appears_during_a_build_is_left_alone(tmp_path):
    path = tmp_path / "store"
    for overwrite in (False, True):
        late = pytest.raises(BuildConflictError, match=r"put something there since .* choose another name")
        with late, publishing(path, overwrite=overwrite):
            path.mkdir()
        assert names(tmp_path) == ["store"]
        path.rmdir()


def test_readers_see_a_whole_store_while_it_is_replaced(tmp_path):
    path = tmp_path / "store"
    build(path, fill=0).close()
    stop = threading.Event()
    seen: list[set[float]] = [set() for _ in range(3)]
    errors: list[BaseException] = []

    def read(k: int) -> None:
        try:
            while not stop.is_set():
                with FeatureStore.open(path) as store:
                    features = store.features
                    first = hashlib.blake2b(features).digest()
                    seen[k].add(float(features[0, 0]))
                    assert (features == features[0, 0]).all()
                    assert hashlib.blake2b(features).digest() == first
        except BaseException as error:
            errors.append(error)

    readers = [threading.Thread(target=read, args=(k,)) for k in range(3)]
    for reader in readers:
        reader.start()
    held = FeatureStore.open(path)
    for k in range(1, 101):
        process_fill = float(k)
        with publishing(path, overwrite=True) as staging:
            write_files(staging.path, fill=process_fill)
    stop.set()
    for reader in readers:
        reader.join()
    assert not errors, errors[0]
    assert all(len(values) > 5 for values in seen), "they saw many stores"
    assert (held.features == 0).all()
    assert names(tmp_path) == ["store"]


def test_no_descriptor_is_left_open(tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert limit > 0
    before = len(os.listdir("/proc/self/fd"))
    for k in range(20):
        build(tmp_path / "store", fill=k, overwrite=True).close()
        with pytest.raises(StoreExistsError):
            publishing(tmp_path / "store")
    assert len(os.listdir("/proc/self/fd")) == before
