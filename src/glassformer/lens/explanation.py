"""The walk through one prediction as an object, and its renderings: plain text, text with colours, Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from glassformer.errors import ConfigError, nearest
from glassformer.lens.layout import Page, Row, printable
from glassformer.lens.parts import Check, Section
from glassformer.lens.scene import Scene

Format = Literal["plain", "ansi", "md"]

NARROWEST = 60  # below it the widest table columns no longer fit
COLOURS = {"title": "1", "name": "36", "formula": "33", "ok": "32", "failed": "1;31", "note": "2"}  # role -> SGR code


@dataclass(frozen=True, slots=True)
class Explanation:
    """The walk through one prediction: its sections in order, then the checks of the whole.

    `scene` holds what was recorded and which cells are followed, `model` is the config in words, and `notes` tell how to
    read the rest.
    """

    scene: Scene
    model: str
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    checks: tuple[Check, ...]

    def __getitem__(self, step: str) -> Section:
        """The section of one step: ``explanation["softmax"]``. Raises KeyError where the model has no such step."""
        found = next((section for section in self.sections if section.step == step), None)
        if found is None:
            raise KeyError(f"{step!r} is not a step of this walk{nearest(step, [s.step for s in self.sections])}")
        return found

    @property
    def all_checks(self) -> Sequence[Check]:
        """The checks of all sections, then those of the whole."""
        return [check for section in self.sections for check in section.checks] + list(self.checks)

    @property
    def ok(self) -> bool:
        """Whether every check agrees."""
        return all(check.ok for check in self.all_checks)

    def render(self, format: Format = "plain", *, width: int = 80, ascii: bool = False) -> str:
        """The whole as text of at most `width` columns, ending in a line break.

        ``ansi`` is ``plain`` with colours and nothing else; ``md`` is Markdown. With `ascii` every character is one of
        ASCII's. Raises ConfigError for an unknown format or too small a width.
        """
        if format not in RENDERINGS:
            raise ConfigError(f"format={format!r} is not one of {', '.join(RENDERINGS)}{nearest(format, RENDERINGS)}")
        if width < NARROWEST:
            raise ConfigError(f"width={width} is too narrow for a line of arithmetic: expected {NARROWEST} or more")
        page = Page(width, self.scene.numbers, ascii)
        return "\n".join(row.rstrip() for row in RENDERINGS[format](self, page)) + "\n"

    def __str__(self) -> str:
        return self.render()

    @property
    def title(self) -> str:
        """What is explained, in one line."""
        return f"One prediction, number by number: what comes after {quote(self.scene.text)}"

    @property
    def verdict(self) -> str:
        """How many checks agree."""
        checks = self.all_checks
        failed = sum(not check.ok for check in checks)
        return f"{len(checks)} checks, " + (f"{failed} of them ✗" if failed else "all ✓")


def rows(explanation: Explanation, page: Page) -> Iterator[Row]:
    """The explanation as rows for a terminal."""
    inner = page.indented("    ")
    yield from page.sentence(explanation.title, "title")
    yield from page.clauses(explanation.model, "name")
    for note in explanation.notes:
        yield from page.sentence(note, "note")
    for number, section in enumerate(explanation.sections, start=1):
        yield Row("")
        yield from page.sentence(f"[{number}] {section.title}: {section.says}", "title", hang="    ")
        yield from inner.arithmetic(section)
        for check in section.checks:
            yield from inner.check(check)
    yield Row("")
    yield from page.sentence(f"CHECKS OF THE WHOLE: {explanation.verdict}", "title")
    for check in explanation.checks:
        yield from inner.check(check)


def plain(explanation: Explanation, page: Page) -> Iterator[str]:
    """Text and nothing else."""
    return (row.text for row in rows(explanation, page))


def ansi(explanation: Explanation, page: Page) -> Iterator[str]:
    """The same with each row in the colour of its role, and bars in blue."""
    for row in rows(explanation, page):
        code = COLOURS.get(row.role)
        text = row.text.rstrip()
        yield f"\x1b[{code}m{text}\x1b[0m" if code else re.sub("█+", "\x1b[34m\\g<0>\x1b[0m", text)


def markdown(explanation: Explanation, page: Page) -> Iterator[str]:
    """An article: a heading for each section, sentences as prose, arithmetic in blocks."""
    yield f"# {escape(page.spell(explanation.title))}"
    for sentence in (explanation.model, *explanation.notes):
        yield from ("", escape(page.spell(sentence)))
    for number, section in enumerate(explanation.sections, start=1):
        yield from ("", f"## {number}. {section.title.capitalize()}", "", escape(page.spell(capitalise(section.says))))
        yield from fenced(row.text for row in page.arithmetic(section))
        yield from bullets(section.checks, page)
    yield from ("", "## Checks of the whole", "", escape(page.spell(explanation.verdict)) + ".")
    yield from bullets(explanation.checks, page)


def fenced(lines: Iterable[str]) -> Iterator[str]:
    """Lines that Markdown leaves as they are, or nothing where there are none."""
    block = list(lines)
    if block:
        yield from ("", "````text", *block, "````")


def bullets(checks: Sequence[Check], page: Page) -> Iterator[str]:
    """The checks as a list."""
    if checks:
        yield ""
    for check in checks:
        yield f"- {escape(' '.join(row.text.strip() for row in page.check(check)))}"


def escape(text: str) -> str:
    """Text whose characters mean nothing to Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)


def capitalise(text: str) -> str:
    """The text with its first letter large and the others as they are."""
    return text[:1].upper() + text[1:]


def quote(text: str, longest: int = 40) -> str:
    """The text on one line in quotation marks, its end where it is long."""
    shown = text if len(text) <= longest else f"…{text[-longest:]}"
    return f'"{printable(shown)}"'


RENDERINGS = {"plain": plain, "ansi": ansi, "md": markdown}
