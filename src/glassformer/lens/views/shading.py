"""Grids in a terminal: as numbers where they fit, else as marks of different darkness."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

from glassformer.lens.layout import Page, display_width, pad, shorten
from glassformer.lens.numbers import Array
from glassformer.lens.views.colours import ink_on, paint, terminal
from glassformer.lens.views.parts import Grid

RAMP, ASCII_RAMP = " ░▒▓█", " .:-=+*#%@"
SIGNED_ASCII_RAMP = " .:*#@"  # without the minus that stands before numbers below 0
HIDDEN, ASCII_HIDDEN = "·", "/"
LABEL = 17  # columns of the name of a row
MOST_ROWS = 64  # of marks; beyond them several cells share one
MOST_NUMBERED = 128  # rows of numbers
NARROWEST_CELL = 5  # so that the names of columns can be read
FEWEST_DIGITS = 2


class Piece(NamedTuple):
    """A stretch of a line, and the SGR code of its looks where they are special."""

    text: str
    style: str = ""


Strip = list[Piece]


def strips(grid: Grid, page: Page) -> Iterator[Strip]:
    """The grid as lines: its title, its cells, and what the marks mean."""
    if grid.title:
        yield from plain_lines(page, grid.title)
    if not grid.values.size:
        yield from plain_lines(page, "There is nothing in it.")
        return
    if any(grid.across):
        yield from plain_lines(page, f"rows: {grid.across[0]}; columns: {grid.across[1]}")
    texts = None if grid.kind == "rule" else numbers_that_fit(grid, page)
    if texts is not None:
        yield from numbered(grid, page, texts)
        yield from plain_lines(page, range_in_words(grid, page, with_ramp=False))
    else:
        yield from marked(grid, page)


def plain_lines(page: Page, text: str) -> Iterator[Strip]:
    """Words without a shade, wrapped."""
    return ([Piece(row.text)] for row in page.sentence(text))


def numbers_that_fit(grid: Grid, page: Page) -> list[list[str]] | None:
    """Every cell as text with as many digits as the width allows, or None where even two are too many."""
    room = page.width - len(page.indent) - label_width(tuple(map(page.spell, grid.row_names)))
    if len(grid.rows) > MOST_NUMBERED or len(grid.columns) * (NARROWEST_CELL + 1) > room:
        return None
    largest = float(np.nanmax(np.abs(grid.values[np.isfinite(grid.values)]), initial=0.0))
    fewest = FEWEST_DIGITS - (len(str(int(largest))) - 1)  # large numbers say enough with fewer decimals
    for digits in range(page.numbers.digits, min(max(fewest, 0), page.numbers.digits) - 1, -1):
        texts = [[cell_text(value, digits, page) for value in row] for row in grid.values.tolist()]
        width = max(NARROWEST_CELL, *(display_width(text) for row in texts for text in row))
        if len(grid.columns) * (width + 1) <= room:
            return texts
    return None


def cell_text(value: float, digits: int, page: Page) -> str:
    """A number of a grid; exactly 0 is written as 0, and a hidden one as a mark."""
    if np.isnan(value):
        return hidden_mark(page)
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or np.isinf(value):
        return page.spell(page.numbers.show(value))
    return f"{value:.{digits}f}"


def hidden_mark(page: Page) -> str:
    """What stands for a cell that is hidden."""
    return ASCII_HIDDEN if page.ascii else HIDDEN


def label_width(labels: tuple[str, ...]) -> int:
    """The columns that the names of rows take."""
    return min(LABEL, max(map(display_width, labels), default=0))


def numbered(grid: Grid, page: Page, texts: list[list[str]]) -> Iterator[Strip]:
    """One line for each row, with the numbers."""
    names = label_width(tuple(map(page.spell, grid.row_names)))
    room = (page.width - len(page.indent) - names) // len(grid.columns) - 1
    longest = max(display_width(text) for row in texts for text in row)
    labels = [display_width(page.spell(label)) for label in grid.columns]
    width = min(room, max(NARROWEST_CELL, longest, *labels), 12)
    heads = (pad(fit(page, label, width), width, ">") for label in grid.columns)
    yield [Piece(page.indent + " " * names + "".join(f" {head}" for head in heads))]
    looks = styles(grid, grid.shades())
    for label, row, line in zip(grid.row_names, texts, looks, strict=True):
        strip = [Piece(page.indent + pad(fit(page, label, names), names, "<"))]
        for text, style in zip(row, line, strict=True):
            strip += [Piece(" "), Piece(pad(text, width, ">"), style)]
        yield strip
    for line in lines_under(grid, page, 1, width + 1, len(grid.columns)):
        yield [Piece(page.indent + " " * (names + 1) + line)]


def styles(grid: Grid, shades: Array) -> list[list[str]]:
    """The SGR code of each cell: its colour behind, black or white before."""
    colours = paint(shades, grid.kind, len(grid.legend)).tolist()
    return [
        ["" if np.isnan(shade) else style_of(colour) for shade, colour in zip(*row, strict=True)]
        for row in zip(shades.tolist(), colours, strict=True)
    ]


@cache
def style_of_code(code: int, is_dark: bool) -> str:
    """Black or white on a colour of the terminal's cube."""
    return f"48;5;{code};38;5;{231 if is_dark else 16}"


def style_of(colour: list[int]) -> str:
    """A colour behind, black or white before."""
    return style_of_code(terminal(colour), ink_on(colour) == "#ffffff")


def fit(page: Page, label: str, width: int) -> str:
    """A label in the characters of the page, cut to a width."""
    text = page.spell(label)
    if display_width(text) <= width:
        return text
    return text[: max(width - 1, 0)] + "~" if page.ascii else shorten(text, width)


def marked(grid: Grid, page: Page) -> Iterator[Strip]:
    """One mark for each cell, or for several."""
    digits = len(str(max(len(grid.rows), len(grid.columns)) - 1))
    names = label_width(tuple(map(page.spell, grid.rows)))
    room = page.width - len(page.indent) - names - digits - 2
    each = 2 if grid.kind == "signed" or len(grid.columns) * 2 <= room else 1
    across, down = max(-(-len(grid.columns) * each // room), 1), max(-(-len(grid.rows) // MOST_ROWS), 1)
    if len(grid.rows) == len(grid.columns):
        across = down = max(across, down)  # a square stays one
    shades, values = pooled(grid, down, across)
    margin = page.indent + " " * (names + digits + 2)
    columns = range(0, len(grid.columns), across)
    if timed(grid):
        yield [Piece(margin + times(grid, columns, each))]
    for place in range(len(str(columns[-1])) - 1, -1, -1) if not timed(grid) else ():
        yield [Piece(margin + "".join(digit(c, place, across).rjust(each) for c in columns))]
    looks = styles(grid, shades)
    for number, (line, cells) in enumerate(zip(shades.tolist(), values.tolist(), strict=True)):
        label = pad(fit(page, grid.rows[number * down], names), names, "<")
        strip = [Piece(f"{page.indent}{number * down:>{digits}} {label} ")]
        for shade, value, style in zip(line, cells, looks[number], strict=True):
            strip.append(Piece(mark(grid, page, shade, value, each), style))
        yield strip
    for line in lines_under(grid, page, across, each, len(columns)):
        yield [Piece(margin + line)]
    if max(down, across) > 1:
        which = {"rule": "the first of them", "signed": "that of the largest size"}.get(
            grid.kind, "the largest of them"
        )
        yield from plain_lines(page, f"Each mark stands for {down} x {across} cells and shows {which}.")
    if grid.rows != grid.columns and not timed(grid):
        named = [f"{c} {fit(page, grid.columns[c], LABEL)}" for c in columns]
        yield from ([Piece(row.text)] for row in page.fill(named, first="columns: ", hang="  ", gap=", "))
    yield from plain_lines(page, range_in_words(grid, page, with_ramp=True))


def timed(grid: Grid) -> bool:
    """Whether the columns are moments, so that a scale says more than their numbers."""
    return grid.across[1] == "time"


def times(grid: Grid, columns: range, each: int) -> str:
    """Moments above the marks that they belong to, as many as do not touch."""
    line = ""
    for number, column in enumerate(columns):
        fits = number * each + display_width(grid.columns[column]) <= len(columns) * each
        if not line or (fits and number * each > display_width(line) + 3):
            line = line.ljust(number * each) + grid.columns[column]
    return line


def lines_under(grid: Grid, page: Page, across: int, each: int, count: int) -> Iterator[str]:
    """Words below the marks of their columns, on as many lines as it takes for none to touch another."""
    lines: list[str] = []
    for span in grid.under:
        start = span.first // across * each
        long = max((span.last // across - span.first // across + 1) * each, 1)
        written = f"|{fit(page, span.text, max(long - 1, display_width(page.spell(span.text))))}"
        for number, line in enumerate(lines):
            if display_width(line) < start:
                lines[number] = pad(line, start, "<") + written
                break
        else:
            lines.append(" " * start + written)
    room = max(page.width - 2, count * each)
    yield from (line[:room] for line in lines)


def digit(column: int, place: int, step: int) -> str:
    """One digit of a column's number; those above the last only where they change."""
    shown = str(column // 10**place % 10)
    if place and (column < 10**place or column // 10**place == (column - step) // 10**place):
        return " "
    return shown


def pooled(grid: Grid, down: int, across: int) -> tuple[Array, Array]:
    """Shades and values of one cell out of each block of `down` x `across`, the largest; of rules the first."""
    shades, values = grid.shades(), grid.values
    if down == across == 1:
        return shades, values
    rows, columns = -(-len(grid.rows) // down), -(-len(grid.columns) // across)
    found = np.full((rows, columns), np.nan), np.full((rows, columns), np.nan)
    for row in range(rows):
        for column in range(columns):
            square = slice(row * down, (row + 1) * down), slice(column * across, (column + 1) * across)
            block = values[square]
            if grid.kind == "rule":
                chosen = 0
            elif np.isnan(block).all():
                continue
            else:
                chosen = int(np.nanargmax(np.abs(block) if grid.kind == "signed" else block))
            found[0][row, column], found[1][row, column] = shades[square].flat[chosen], block.flat[chosen]
    return found


def mark(grid: Grid, page: Page, shade: float, value: float, each: int) -> str:
    """What stands for a cell."""
    if np.isnan(shade):
        return hidden_mark(page) * (1 if each == 1 else 2)
    if grid.kind == "rule":
        return rule_mark(page, int(value)) * each if value == 0 else rule_mark(page, int(value)).rjust(each)
    ramp = ramp_of(grid, page)
    if grid.kind == "signed":
        size = abs(shade - 0.5) * 2
        darkness = ramp[min(int(size * len(ramp)), len(ramp) - 1)]
        return ("-" if value < 0 and darkness != " " else " ") + darkness
    return ramp[min(int(shade * len(ramp)), len(ramp) - 1)] * each


def ramp_of(grid: Grid, page: Page) -> str:
    """The marks, from the lightest to the darkest."""
    if not page.ascii:
        return RAMP
    return SIGNED_ASCII_RAMP if grid.kind == "signed" else ASCII_RAMP


def rule_mark(page: Page, code: int) -> str:
    """A filled mark where a token may look, else the code of the rule."""
    if code == 0:
        return "#" if page.ascii else "█"
    return str(code)


def range_in_words(grid: Grid, page: Page, *, with_ramp: bool) -> str:
    """What the marks or colours mean, with the numbers at both ends."""
    hidden = f", {hidden_mark(page)} hidden" if np.isnan(grid.values).any() else ""
    if grid.kind == "rule":
        codes = sorted({int(code) for code in grid.values[~np.isnan(grid.values)].ravel().tolist()})
        return ", ".join(f"{rule_mark(page, code)} {grid.legend[code]}" for code in codes) + hidden
    low, high = (page.numbers.show(end) for end in grid.ends)
    if not with_ramp:
        return f"range {low} to {high}{hidden}"
    ramp = ramp_of(grid, page)
    if grid.kind == "signed":
        return f'marks "{ramp}" for sizes from 0 to {high}, with - before those below 0{hidden}'
    return f'marks "{ramp}" for {low} to {high}{hidden}'
