"""Reads YAML 1.2 files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moola.errors import InputError

__all__ = ["read_yaml"]


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML 1.2 file. `1e-3` is a number, and a repeated key is an error.

    Raises `InputError` for a file that cannot be read, is not YAML, or holds no mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        with open(path, encoding="utf-8") as file:
            content = YAML(typ="safe", pure=True).load(file)
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", "Give the path of a YAML file", source=str(path)
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"is not valid YAML: {error}", "Repair the file", source=str(path)) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(
            "must be a mapping of names to values", "Write for example `atr_period: 14`", source=str(path)
        )
    return content
