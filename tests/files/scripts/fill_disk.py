"""Builds stores on a small disk until it is full, and checks what is left."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny_store import build, names, value

from moola.errors import StoreWriteError

disk = Path(sys.argv[1])
build(disk / "store", fill=1, lengths=(500,)).close()
for name, overwrite in [("other", False), ("store", True), ("other", False)]:
    with pytest.raises(StoreWriteError) as caught:
        build(disk / name, overwrite=overwrite, lengths=(9000,))
    assert caught.value.errno == 28
    assert "cannot be written: No space left on device" in str(caught.value)
    assert str(caught.value).endswith("nothing was left behind. Free some space, or build on another disk")
    assert names(disk) == ["store"]
    assert value(disk / "store") == 1
build(disk / "store", overwrite=True, fill=2, lengths=(500,)).close()
assert value(disk / "store") == 2
assert names(disk) == ["store"]
