"""The `moola` command: each command is a few lines over the library, one module per stage of the work."""

from __future__ import annotations

from moola.cli import features as features
from moola.cli import finetune as finetune
from moola.cli import formats as formats
from moola.cli import gates as gates
from moola.cli import inspection as inspection
from moola.cli import labels as labels
from moola.cli import models as models
from moola.cli import serving as serving
from moola.cli import sweep as sweep
from moola.cli import validation as validation
from moola.cli.app import app, run

__all__ = ["app", "run"]
