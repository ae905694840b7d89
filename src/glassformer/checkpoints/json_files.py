"""The small JSON files of a model folder, read with errors that name file and line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from glassformer.errors import CheckpointError


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Sorted keys, indented, as the other writers of such folders do."""
    path.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises CheckpointError with file and line."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}:{error.lineno}: is not valid JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not valid JSON in UTF-8 ({error})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected keys and values, found {type(values).__name__}")
    return values


def refuse_constant(name: str) -> NoReturn:
    """Python reads NaN and Infinity, which are no JSON and no number that a config can mean."""
    raise ValueError(f"{name} is no number")
