"""Views as text: plain, with colours, Markdown and JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from glassformer.lens.arithmetic import bar
from glassformer.lens.layout import Page, Row, printable, shorten
from glassformer.lens.numbers import Array
from glassformer.lens.parts import Equation, Picture, Table
from glassformer.lens.views.branches import branches
from glassformer.lens.views.parts import Bar, Cell, Grid, Heading, Part, Sentence, Sheet, Tree
from glassformer.lens.views.shading import Piece, Strip, strips

if TYPE_CHECKING:
    from glassformer.lens.views.view import View

BAR = 12  # columns of a bar
LONGEST_CELL = 34  # columns of words in a table
TITLE, HEADING, BARS = "1", "36", "34"  # SGR codes


def number(value: float | int, page: Page) -> str:
    """A number as it is shown; a whole one without decimals."""
    return f"{value:,}" if isinstance(value, int) else page.numbers.show(value)


def sentence_text(sentence: Sentence | str, page: Page) -> str:
    """The words with their numbers."""
    if isinstance(sentence, str):
        return sentence
    return "".join(piece if isinstance(piece, str) else number(piece, page) for piece in sentence.pieces)


def cell_text(cell: Cell, page: Page) -> str:
    """A cell of a sheet."""
    match cell:
        case None:
            return ""
        case str():
            return shorten(cell, LONGEST_CELL)
        case Bar():
            return bar(cell.share, BAR)
        case _:
            return number(cell, page)


def table_of(sheet: Sheet, page: Page) -> Table:
    """The sheet with its numbers as text."""
    rows = tuple(tuple(cell_text(cell, page) for cell in row) for row in sheet.rows)
    return Table(sheet.head, rows, "".join(alignments(sheet)))


def alignments(sheet: Sheet) -> list[str]:
    """``>`` for columns that hold numbers, ``<`` for others."""
    columns = list(zip(*sheet.rows, strict=True)) or [()] * len(sheet.head)
    return [">" if any(isinstance(cell, int | float) for cell in column) else "<" for column in columns]


def strips_of(part: Part, page: Page) -> Iterator[Strip]:
    """A part as lines."""
    match part:
        case Heading():
            yield from styled(page.sentence(part.title), HEADING)
        case Grid():
            yield from strips(part, page)
        case str() | Sentence():
            yield from styled(page.sentence(sentence_text(part, page)))
        case Sheet():
            yield from styled(page.sentence(part.title)) if part.title else ()
            yield from (with_bars(row.text) for row in page.table(table_of(part, page)))
        case Tree():
            yield from ([Piece(line)] for line in branches(part, page))
        case Picture():
            yield from ([Piece(shorten(row.text, page.width))] for row in page.line(part))
        case Equation() | Table():
            yield from styled(page.line(part))


def styled(rows: Iterable[Row], style: str = "") -> Iterator[Strip]:
    """Rows of text, all of the same looks."""
    return ([Piece(row.text.rstrip(), style)] for row in rows)


def with_bars(text: str) -> Strip:
    """A line whose bars have a colour."""
    return [Piece(piece, BARS if piece[:1] in "█" else "") for piece in re.split("(█+)", text) if piece]


def all_strips(view: View, page: Page) -> Iterator[Strip]:
    """The view as lines, a blank one between parts, but not behind a heading."""
    yield from styled(page.sentence(view.title), TITLE)
    before: Part | None = None
    for part in view.parts:
        if not isinstance(before, Heading):
            yield []
        yield from strips_of(part, page)
        before = part


def plain(view: View, page: Page) -> Iterator[str]:
    """Text and nothing else."""
    return (printable("".join(piece.text for piece in strip)) for strip in all_strips(view, page))


def ansi(view: View, page: Page) -> Iterator[str]:
    """The same with colours."""
    for strip in all_strips(view, page):
        while strip and not strip[-1].style and not strip[-1].text.strip():
            strip.pop()
        texts = ((piece.style, printable(piece.text)) for piece in strip)
        yield "".join(f"\x1b[{style}m{text}\x1b[0m" if style else text for style, text in texts)


def markdown(view: View, page: Page) -> Iterator[str]:
    """Headings, prose and tables; pictures of characters as blocks."""
    return map(printable, markdown_lines(view, page))


def markdown_lines(view: View, page: Page) -> Iterator[str]:
    """The lines of Markdown."""
    yield f"# {escape(page.spell(view.title))}"
    for part in view.parts:
        yield ""
        match part:
            case Heading():
                yield f"## {escape(page.spell(part.title))}"
            case str() | Sentence():
                yield escape(page.spell(sentence_text(part, page)))
            case Sheet():
                yield from (escape(page.spell(part.title)), "") if part.title else ()
                yield from markdown_table(table_of(part, page), page)
            case Table():
                yield from markdown_table(part, page)
            case _:
                yield from ("````text", *("".join(p.text for p in strip) for strip in strips_of(part, page)), "````")


def markdown_table(table: Table, page: Page) -> Iterator[str]:
    """A table."""
    for number, row in enumerate((table.head, *table.rows)):
        yield "| " + " | ".join(escape(page.spell(cell)) for cell in row) + " |"
        if number == 0:
            yield "|" + "|".join(" ---: " if side == ">" else " --- " for side in table.align) + "|"


def escape(text: str) -> str:
    """Text whose characters mean nothing to Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)


def as_json(view: View, page: Page) -> Iterator[str]:
    """Parts and arrays, one object, numbers at full precision."""
    data = {
        "view": view.name,
        "title": view.title,
        "parts": [part_data(part) for part in view.parts],
        "arrays": {name: array_data(array) for name, array in view.arrays.items()},
    }
    yield json.dumps(data, ensure_ascii=page.ascii, allow_nan=False)


def part_data(part: Part) -> dict[str, Any]:
    """A part by its kind and fields."""
    match part:
        case str():
            return {"kind": "sentence", "pieces": [part]}
        case Sentence():
            return {"kind": "sentence", "pieces": [plain_number(piece) for piece in part.pieces]}
        case Sheet():
            rows = [[cell_data(cell) for cell in row] for row in part.rows]
            return {"kind": "sheet", "title": part.title, "head": part.head, "rows": rows}
        case Grid():
            fields: dict[str, Any] = {
                "title": part.title,
                "shades": part.kind,
                "legend": part.legend,
                "across": part.across,
            }
            names = {"rows": part.rows, "columns": part.columns, "ends": [plain_number(end) for end in part.ends]}
            if part.under:
                fields["under"] = [span._asdict() for span in part.under]
            return {"kind": "grid", **fields, **names, "values": array_data(part.values)["values"]}
        case Tree():
            return {
                "kind": "tree",
                "title": part.title,
                "root": part.root,
                "twigs": [twig._asdict() for twig in part.twigs],
            }
        case Heading():
            return {"kind": "heading", "title": part.title}
        case Equation():
            return {"kind": "equation", "left": part.left, "pieces": part.pieces}
        case Table():
            return {"kind": "table", "head": part.head, "rows": part.rows}
        case Picture():
            return {"kind": "picture", "lines": part.lines}


def cell_data(cell: Cell) -> Any:
    """A cell of a sheet; a bar is its share."""
    return plain_number(cell.share) if isinstance(cell, Bar) else plain_number(cell)


def plain_number(value: Any) -> Any:
    """A number that JSON can hold: infinities as words, and nothing where there is no number."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def array_data(array: Array) -> dict[str, Any]:
    """Shape and nested values of an array."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return {"shape": array.shape, "values": array.tolist()}
    flat = np.array([plain_number(value) for value in array.ravel().tolist()], dtype=object)
    return {"shape": array.shape, "values": flat.reshape(array.shape).tolist()}


RENDERINGS: dict[str, Callable[[View, Page], Iterator[str]]] = {
    "plain": plain,
    "ansi": ansi,
    "md": markdown,
    "json": as_json,
}
