"""Models of windows of bars: a bidirectional LSTM with heads, in shipped and in custom sizes."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if importlib.util.find_spec("torch") is None:
    raise ImportError(
        "models need torch, which is not installed here: `pip install 'torch>=2.2'`, or install moola with its "
        "dependencies (without --no-deps)",
        name="torch",
    )

if TYPE_CHECKING:
    from moola.models.encoder import Encoder as Encoder
    from moola.models.encoder import pool as pool
    from moola.models.jade import Jade as Jade
    from moola.models.jade import JadeCompact as JadeCompact
    from moola.models.jade import JadeOutput as JadeOutput
    from moola.models.jade import build_model as build_model
    from moola.models.loading import load_encoder as load_encoder
    from moola.models.loading import load_model as load_model
    from moola.models.spans import decode_spans as decode_spans
    from moola.models.spans import encode_spans as encode_spans
    from moola.models.spans import most_likely_spans as most_likely_spans
    from moola.models.weights import FeatureIdentity as FeatureIdentity
    from moola.settings.models import Config as Config
    from moola.settings.models import load_config as load_config

# Imported on first use, so that reading a configuration does not wait for torch.
_HOMES = {
    "Config": "moola.settings.models",
    "Encoder": "moola.models.encoder",
    "FeatureIdentity": "moola.models.weights",
    "Jade": "moola.models.jade",
    "JadeCompact": "moola.models.jade",
    "JadeOutput": "moola.models.jade",
    "build_model": "moola.models.jade",
    "decode_spans": "moola.models.spans",
    "encode_spans": "moola.models.spans",
    "load_config": "moola.settings.models",
    "load_encoder": "moola.models.loading",
    "load_model": "moola.models.loading",
    "most_likely_spans": "moola.models.spans",
    "pool": "moola.models.encoder",
}

__all__ = [
    "Config",
    "Encoder",
    "FeatureIdentity",
    "Jade",
    "JadeCompact",
    "JadeOutput",
    "build_model",
    "decode_spans",
    "encode_spans",
    "load_config",
    "load_encoder",
    "load_model",
    "most_likely_spans",
    "pool",
]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
