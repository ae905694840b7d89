"""Strict frozen config objects, to and from YAML and JSON, with dotted overrides and errors that name the nearest key."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from glassformer.errors import ConfigError, nearest


class Config(BaseModel):
    """A frozen object whose fields are checked at birth. Unknown keys are errors, with the nearest known name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "config") -> Self:
        """Build from plain values. Raises ConfigError naming `where`, the dotted key, what was found and expected."""
        refuse_unknown_keys(cls, values, where)
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError(f"{where}: {explain(error)}") from None
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Build from a YAML or JSON file (JSON is YAML). Raises ConfigError."""
        return cls.parse(read_mapping(path), str(path))

    def updated(self, overrides: Mapping[str, Any], where: str = "override") -> Self:
        """A copy with dotted keys replaced: ``{"model.d_model": 64}``. Values may be strings; the field gives the type."""
        values = self.model_dump()
        for key, value in overrides.items():
            set_dotted(values, key, value)
        return type(self).parse(values, where)

    def yaml(self) -> str:
        """Every field written out, in the order in which the class declares them."""
        # Unicode's other line ends would be read back as spaces; PyYAML escapes them only where it escapes all but ASCII.
        readable = not any(line_end in self.model_dump_json() for line_end in "\x85\u2028\u2029")
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=readable)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML or JSON file holds. Raises ConfigError with file and line."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: is not valid YAML ({getattr(error, 'problem', None) or error})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(values).__name__}")
    return typing.cast("dict[str, Any]", values)


def set_dotted(values: dict[str, Any], key: str, value: Any) -> None:
    """Put `value` at a dotted place, making the mappings on the way: ``set_dotted(v, "model.d_model", 64)``."""
    *outer, last = key.split(".")
    for name in outer:
        inner = values.get(name)
        if not isinstance(inner, dict):
            inner = values[name] = {}
        values = typing.cast("dict[str, Any]", inner)
    values[last] = value


def parse_assignments(pairs: list[str]) -> dict[str, Any]:
    """``["model.d_model=64"]`` to ``{"model.d_model": "64"}``; `null` clears. Raises ConfigError without a '='."""
    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair}: expected KEY=VALUE, for example --set model.d_model=64")
        overrides[key.strip()] = None if text.strip().lower() == "null" else text.strip()
    return overrides


def refuse_unknown_keys(cls: type[BaseModel], values: Mapping[str, Any], where: str, prefix: str = "") -> None:
    """Raise ConfigError for the first key, at any depth, that `cls` does not have."""
    names = {field.alias or name: field.annotation for name, field in cls.model_fields.items()}
    for key, value in values.items():
        if key not in names:
            raise ConfigError(f"{where}: unknown key {prefix + str(key)!r}{nearest(str(key), names)}")
        inner = nested_config(names[key])
        if inner is not None and isinstance(value, Mapping):
            refuse_unknown_keys(inner, typing.cast("Mapping[str, Any]", value), where, f"{prefix}{key}.")


def nested_config(annotation: Any) -> type[BaseModel] | None:
    """The config class that a field holds, if it holds one (optional or not)."""
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None)


def explain(error: ValidationError) -> str:
    """The first problem of a pydantic error as one clause: key, what was expected, what was found."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, Exception):
        return f"{key}: {cause}" if key else str(cause)
    message = problem["msg"][0].lower() + problem["msg"][1:]
    found = "" if isinstance(problem["input"], Mapping) else f", found {problem['input']!r}"
    return f"{key}: {message}{found}"
