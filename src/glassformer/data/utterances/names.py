"""Names of files that tell what is in them: ``{text}_{speaker}_{take}`` reads fields off ``7_jackson_32.wav``."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path

from glassformer.errors import ConfigError

FREE = ("text", "label")  # fields that may hold what stands between the others
EXAMPLE = "'{text}_{speaker}_{take}'"


class NamePattern:
    """A pattern of fields in braces between other characters, as long as a name without its extension, or a path.

    A field other than ``text`` and ``label`` holds none of the characters beside it: ``turn_on_theo_3`` is the text
    ``turn_on``. A pattern with ``/`` is held against as many folders above the file. Raises ConfigError for a pattern
    that is none.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        try:
            pieces = list(string.Formatter().parse(pattern))
        except ValueError as error:
            raise ConfigError(f"the name pattern {pattern!r} is none ({error}); expected one like {EXAMPLE}") from None
        self.fields = tuple(name for _, name, _, _ in pieces if name is not None)
        for name, (_, _, form, conversion) in zip(self.fields, [p for p in pieces if p[1] is not None], strict=True):
            if not name.isidentifier() or form or conversion:
                raise ConfigError(
                    f"the name pattern {pattern!r} has a field {name!r}; fields are words, as in {EXAMPLE}"
                )
        if not self.fields:
            raise ConfigError(f"the name pattern {pattern!r} has no field in braces; expected one like {EXAMPLE}")
        if len(set(self.fields)) < len(self.fields):
            raise ConfigError(f"the name pattern {pattern!r} has a field twice; give each a name of its own")
        self.n_folders = pattern.count("/")
        self.expression = re.compile(expression_of(pattern, pieces), re.DOTALL)

    def fields_of(self, path: Path) -> dict[str, str] | None:
        """The fields of a file's name; None where it does not fit."""
        return self.fields_of_name("/".join([*path.parts[-1 - self.n_folders : -1], path.stem]))

    def fields_of_name(self, name: str) -> dict[str, str] | None:
        """The fields of a name that has no extension; None where it does not fit."""
        found = self.expression.fullmatch(name)
        return found.groupdict() if found else None


def expression_of(pattern: str, pieces: list[tuple[str, str | None, str | None, str | None]]) -> str:
    """The regular expression that a pattern stands for. Raises ConfigError for two fields with nothing between them."""
    parts: list[str] = []
    for number, (literal, name, _, _) in enumerate(pieces):
        if name is None:
            parts.append(re.escape(literal))
            continue
        if not literal and number:
            raise ConfigError(
                f"the name pattern {pattern!r} has two fields with nothing between them; put what parts them there"
            )
        following = pieces[number + 1][0] if number + 1 < len(pieces) else ""
        beside = literal[-1:] + following[:1] + "/"
        inside = ".+" if name in FREE else f"[^{re.escape(beside)}]+"
        parts.append(f"{re.escape(literal)}(?P<{name}>{inside})")
    return "".join(parts)


class Replacements:
    """Texts and words that are to become others, as in ``{"7": "seven"}``: a whole text first, else each of its words."""

    def __init__(self, replace: Mapping[str, str]) -> None:
        self.replace = {str(old): str(new) for old, new in replace.items()}
        self.unused = dict.fromkeys(self.replace)

    def __call__(self, text: str) -> str:
        """The text that is meant."""
        if text in self.replace:
            self.unused.pop(text, None)
            return self.replace[text].strip()
        words = text.split(" ")
        if self.replace.keys().isdisjoint(words):
            return text
        for word in words:
            if word in self.replace:
                self.unused.pop(word, None)
        return " ".join(word for word in (self.replace.get(word, word).strip() for word in words) if word)
