"""Values of JSON: parsed with an error that names the line, and put into words. What they are for is decided elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from glassformer.errors import DataError


def parse_json(text: str, name: str, line: int | None = None) -> Any:
    """The value of one JSON text; `line` is given where the text is one line of a file. Raises DataError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        found = f"{error.msg[0].lower()}{error.msg[1:]} at column {error.colno}"
        raise DataError(
            f"{name}:{line or error.lineno}: is not valid JSON ({found}); mend or remove the line"
        ) from None
    except (RecursionError, ValueError) as error:  # nested too deeply; an integer of thousands of digits
        raise DataError(f"{name}:{line or 1}: JSON that cannot be read ({error})") from None


def holds_json_lines(text: str) -> bool:
    """Whether the first line that is not blank is a JSON object by itself and another line follows it."""
    first, _, rest = text.lstrip().partition("\n")
    return bool(rest.strip()) and isinstance(json_or_none(first), dict)


def json_or_none(text: str | bytes) -> Any:
    """The value of a JSON text, None where it is not one."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def json_items(text: str, name: str) -> Iterator[tuple[str, Any]]:
    """The items of a list, or the one value there is, each with its place. Blank text has none."""
    if text.strip():
        value = parse_json(text, name)
        for number, item in enumerate(value if isinstance(value, list) else [value], 1):
            yield f"{name}, item {number}", item


def unfit_as_text(value: object) -> str | None:
    """Why a value is no text, as a clause that follows its name; None for text, and for null, which is empty text."""
    if value is None:
        return None
    if not isinstance(value, str):
        return f"holds {kind_of(value)}, expected text"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"holds \\u{ord(value[error.start]):04x}, half of a surrogate pair, which is no character"
    return None


def kind_of(value: object) -> str:
    """What a JSON or Parquet value is, in words."""
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object", str: "text"}
    return "null" if value is None else kinds.get(type(value), type(value).__name__)


def listed(names: Iterable[str]) -> str:
    """The first names in quotes, long ones cut, for an error."""
    shown = [repr(name if len(name) <= 40 else name[:39] + "…") for name in names]
    return ", ".join(shown[:12]) + (", …" if len(shown) > 12 else "") if shown else "nothing"
