"""The texts that a verb is asked about, from arguments, a file (a text a line, or JSONL) or standard input; answers in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from glassformer.cli.standard_input import is_piped, read_standard_input

if TYPE_CHECKING:
    from glassformer.pipeline import Pipeline

AT_ONCE = 256  # texts that are sorted by length together; answers come after each so many
KEYS = ("text", "source", "src", "sentence", "anchor", "prompt", "review", "content")
Answer = TypeVar("Answer")


class Asked(NamedTuple):
    """A text and its place in a file; nothing for one that was given as an argument."""

    text: str
    where: str = ""


def read_texts(texts: Sequence[str] | None, file: Path | None, key: str | None = None) -> list[Asked]:
    """The texts asked about, at least one. Raises ConfigError where there is none, DataError for a broken file."""
    from glassformer.errors import ConfigError

    if texts and file is not None:
        raise ConfigError("give texts as arguments or name a --file, not both")
    if file is not None:
        return read_file(file, key)
    if texts and list(texts) != ["-"]:
        return [Asked(text) for text in texts]
    if texts or is_piped():
        return lines_of("standard input", read_standard_input().replace("\r\n", "\n"))
    raise ConfigError("no text: give some as arguments, name a --file, or pipe them in, one a line")


def read_file(path: Path, key: str | None) -> list[Asked]:
    """The lines of a text file, or the texts of JSON lines. Raises DataError, naming the line."""
    from glassformer.data.opening import missing, open_file
    from glassformer.data.source_file import extension_of

    if not path.exists():
        raise missing(path)
    lines = lines_of(str(path), open_file(path, []).text_of_lines())
    if extension_of(path.name) not in (".jsonl", ".ndjson"):
        return lines
    return [Asked(text_of_json(line, key), line.where) for line in lines if line.text.strip()]


def lines_of(name: str, text: str) -> list[Asked]:
    """Every line with its place. Raises DataError where there is none."""
    from glassformer.errors import DataError

    lines = text.removesuffix("\n").split("\n") if text.strip() else []
    if not lines:
        raise DataError(f"{name}: holds no text")
    return [Asked(line, f"{name}:{number}") for number, line in enumerate(lines, start=1)]


def text_of_json(line: Asked, key: str | None) -> str:
    """The text in one JSON object. Raises DataError."""
    from glassformer.errors import DataError

    try:
        row = json.loads(line.text)
    except ValueError:
        row = None
    known = (key,) if key is not None else KEYS
    found = next((row[name] for name in known if isinstance(row, dict) and isinstance(row.get(name), str)), None)
    if found is None:
        wanted = f"a {key!r}" if key is not None else "a 'text' or 'source'"
        raise DataError(f"{line.where}: expected a JSON object with {wanted} that is text; choose one with --text-key")
    return found


def answered(
    pipe: Pipeline, verb: str, asked: Sequence[Asked], answer: Callable[[list[str]], Sequence[Answer]]
) -> Iterator[tuple[str, Answer]]:
    """Each text and its answer, in order, as soon as its portion is done.

    Before the first one all texts are looked at, so that no mistake turns up after an hour. Raises ConfigError for a model
    that does not do this and an argument that it cannot read, DataError, naming the line, for such a text of a file.
    """
    from glassformer.errors import ConfigError, DataError

    pipe.check(verb)
    for one in asked:
        try:
            pipe.check(verb, one.text)
        except ConfigError as error:
            if not one.where:
                raise
            raise DataError(f"{one.where}: {error}") from None
    for start in range(0, len(asked), AT_ONCE):
        portion = [one.text for one in asked[start : start + AT_ONCE]]
        yield from zip(portion, answer(portion), strict=True)


def on_one_line(text: str) -> str:
    """A text without line ends, so that each line of output answers one text."""
    return " ".join(text.splitlines())
