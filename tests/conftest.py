"""Settings for every test."""

from __future__ import annotations

import os

# Tests run side by side, and their models are tiny: two threads that wait for each other are many times as slow as one.
# Set before torch is imported, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
