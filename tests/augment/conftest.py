"""Fixtures of the tests in this room."""

from __future__ import annotations

from typing import Any

import pytest
from augmented import MODULES


@pytest.fixture(params=list(MODULES))
def module(request) -> Any:
    return MODULES[request.param]
