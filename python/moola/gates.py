"""Gates that a run must pass. The names live in `moola.runs.gates`."""

from __future__ import annotations

from moola.runs.gates import EVALUATION, GateCheck, GateReport, check_gates, read_gates

__all__ = ["EVALUATION", "GateCheck", "GateReport", "check_gates", "read_gates"]
