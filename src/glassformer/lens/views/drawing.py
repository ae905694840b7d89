"""Where everything of a view goes in a picture: boxes, words, strokes and rasters on a plane. Knows no file format."""

# one unit is a pixel of a picture at its natural size; y grows downwards

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from glassformer.lens.arithmetic import Numbers
from glassformer.lens.layout import Page, display_width, shorten
from glassformer.lens.numbers import Array
from glassformer.lens.parts import Equation, Picture, Table
from glassformer.lens.views.colours import hexadecimal, ink_on, paint
from glassformer.lens.views.parts import Bar, Grid, Heading, Part, Sentence, Sheet, Span, Tree, Twig
from glassformer.lens.views.renderings import alignments, cell_text, sentence_text
from glassformer.lens.views.shading import cell_text as cell_in_grid

if TYPE_CHECKING:
    from glassformer.lens.views.view import View

INK, FAINT, LINE = "#1a1a1a", "#5f6368", "#c8ccd0"
BAR_COLOUR, KEPT, PRUNED, FINISHED = "#2171b5", "#2171b5", "#9a9a9a", "#00704f"
MONO, SANS = 0.602, 0.56  # advance of a letter over its size: DejaVu Sans Mono, and about that of DejaVu Sans
WIDTH, MARGIN, GAP, SIZE = 960.0, 24.0, 18.0, 12.0
ROW = 18.0  # height of a line of text
NUMBERED = (16, 28)  # columns and rows of a grid up to which its numbers are written into it
DRAWN = 1600  # cells up to which each is a box of its own; more are one raster
BAR_WIDTH = 110.0


class Box(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float
    fill: str = "none"
    stroke: str = ""
    dashed: bool = False
    hatched: bool = False


class Text(NamedTuple):
    """A line of words. `y` is that of the middle of its letters; `turned` is in degrees, against the clock."""

    x: float
    y: float
    text: str
    size: float = SIZE
    anchor: str = "start"
    colour: str = INK
    mono: bool = False
    bold: bool = False
    turned: float = 0.0


class Stroke(NamedTuple):
    """A line through points."""

    points: tuple[tuple[float, float], ...]
    colour: str = LINE
    width: float = 1.0
    dashed: bool = False


class Raster(NamedTuple):
    """Pixels, stretched over a rectangle without smoothing."""

    x: float
    y: float
    width: float
    height: float
    pixels: Array  # rows columns 3, bytes


Item = Box | Text | Stroke | Raster


@dataclass(frozen=True, slots=True)
class Drawing:
    """Items on a plane of some size. title: what it shows, for those who cannot see it."""

    width: float
    height: float
    items: tuple[Item, ...] = field(default=())
    title: str = ""


def moved(item: Item, dx: float, dy: float) -> Item:
    """The item elsewhere."""
    if isinstance(item, Stroke):
        return item._replace(points=tuple((x + dx, y + dy) for x, y in item.points))
    return item._replace(x=item.x + dx, y=item.y + dy)


def text_width(text: str, size: float = SIZE, *, mono: bool = False) -> float:
    """About how wide words are."""
    return display_width(text) * size * (MONO if mono else SANS)


def draw(view: View, numbers: Numbers) -> Drawing:
    """All parts of a view below each other; grids beside each other where they fit."""
    title = draw_words(view.title, 18, bold=True)
    drawings: list[tuple[Part | None, Drawing]] = [(None, title)]
    drawings += [(part, draw_part(part, numbers)) for part in view.parts]
    items: list[Item] = []
    x, y, height, widest = MARGIN, MARGIN, 0.0, WIDTH
    for part, drawing in drawings:
        fits = isinstance(part, Grid) and x > MARGIN and x + drawing.width + MARGIN <= max(widest, WIDTH)
        if not fits:
            x, y, height = MARGIN, y + height + (GAP if height else 0), 0.0
        items += [moved(item, x, y) for item in drawing.items]
        widest, height = max(widest, x + drawing.width + MARGIN), max(height, drawing.height)
        x = x + drawing.width + 2 * GAP if isinstance(part, Grid) else WIDTH
    return Drawing(widest, y + height + MARGIN, tuple(items), view.title)


def draw_part(part: Part, numbers: Numbers) -> Drawing:
    """One part at the origin."""
    match part:
        case Grid():
            return draw_grid(part, numbers)
        case Tree():
            return draw_tree(part, numbers)
        case Sheet():
            return draw_sheet(part, numbers)
        case Heading():
            return draw_words(part.title, 14, bold=True)
        case str() | Sentence():
            return draw_words(sentence_text(part, Page(100, numbers)), SIZE)
        case Table():
            return draw_sheet(Sheet(part.head, part.rows), numbers)
        case Picture():
            return draw_lines(part.lines)
        case Equation():
            return draw_words(" ".join((part.left, *part.pieces)), SIZE)


def draw_words(text: str, size: float, *, bold: bool = False) -> Drawing:
    """A sentence, wrapped."""
    columns = int((WIDTH - 2 * MARGIN) / (size * (SANS + 0.06 * bold)))
    rows = [row.text for row in Page(columns, Numbers(4)).sentence(text)]
    height = size * 1.5
    items = [Text(0, (number + 0.5) * height, row, size, bold=bold) for number, row in enumerate(rows)]
    return Drawing(max(text_width(row, size) for row in rows), len(rows) * height, tuple(items), text)


def draw_lines(lines: Sequence[str]) -> Drawing:
    """Lines that are shown as they are."""
    items = [Text(0, (number + 0.5) * ROW, line, SIZE, mono=True) for number, line in enumerate(lines)]
    return Drawing(max((text_width(t, mono=True) for t in lines), default=0), len(lines) * ROW, tuple(items))


def draw_sheet(sheet: Sheet, numbers: Numbers) -> Drawing:
    """A table with a line under its head."""
    page, items = Page(10_000, numbers), list[Item]()
    rows = [[("" if isinstance(cell, Bar) else cell_text(cell, page)) for cell in row] for row in sheet.rows]
    columns = list(zip(sheet.head, *rows, strict=True))
    has_bar = [any(isinstance(row[c], Bar) for row in sheet.rows) for c in range(len(sheet.head))]
    widths = [
        max(BAR_WIDTH if bar else 0.0, *(text_width(text, mono=True) for text in column))
        for column, bar in zip(columns, has_bar, strict=True)
    ]
    top = ROW * 1.3 if sheet.title else 0.0
    if sheet.title:
        items.append(Text(0, ROW / 2, sheet.title, SIZE, bold=True))
    aligned, x = alignments(sheet), 0.0
    for c, width in enumerate(widths):
        to_right = aligned[c] == ">"
        for r, text in enumerate(columns[c]):
            y = top + (r + 0.5) * ROW
            cell = sheet.rows[r - 1][c] if r else None
            if isinstance(cell, Bar):
                share = min(max(cell.share, 0.0), 1.0)
                items.append(Box(x, y - 5, BAR_WIDTH, 10, "#e8ecf0"))
                items.append(Box(x, y - 5, BAR_WIDTH * share, 10, BAR_COLOUR))
            elif text:
                anchor, colour = "end" if to_right else "start", INK if r else FAINT
                items.append(Text(x + width * to_right, y, text, SIZE, anchor, colour, mono=True))
        x += width + GAP
    whole = max(x - GAP, text_width(sheet.title, SIZE * 1.1))
    items.append(Stroke(((0, top + ROW), (x - GAP, top + ROW))))
    return Drawing(whole, top + (len(rows) + 1) * ROW, tuple(items), sheet.title)


def draw_grid(grid: Grid, numbers: Numbers) -> Drawing:
    """A map of shades between the names of its rows and columns, and the colours' range."""
    n_rows, n_columns = grid.values.shape
    texts = written(grid, numbers)
    if texts is not None:
        longest = max((len(text) for row in texts for text in row), default=1)
        named = max(map(display_width, grid.columns), default=0)
        wide, high = max(34.0, longest * 10.5 * MONO + 10, min(named, 9) * 11 * MONO + 8), 22.0
    elif grid.drawn is not None:
        wide, high = grid.drawn[0] / max(n_columns, 1), grid.drawn[1] / max(n_rows, 1)
    else:
        wide = high = min(18.0, max(3.0, round(640 / max(n_rows, n_columns, 1), 1)))
    rows, columns = ([shorten(label, 18) for label in labels] for labels in (grid.row_names, grid.columns))
    left = max((text_width(label, 11, mono=True) for label in rows), default=0) + 8
    across = [text_width(label, 11, mono=True) for label in columns]
    is_timed = grid.across[1] == "time"
    is_turned = bool(across) and max(across) > wide - 4 and not is_timed
    head = (max(across, default=0) if is_turned else 14) + 8
    title = draw_words(grid.title, SIZE, bold=True) if grid.title else Drawing(0, 0)
    top = title.height + (ROW if any(grid.across) else 0) + head
    items: list[Item] = list(title.items)
    if any(grid.across):
        words = f"rows: {grid.across[0]}; columns: {grid.across[1]}"
        items.append(Text(0, title.height + ROW / 2, words, 11, colour=FAINT))
    if is_timed:
        items += moments(rows, columns, left, top, wide, high)
    else:
        items += names(rows, columns, left, top, wide, high, is_turned)
    items += cells(grid, texts, left, top, wide, high)
    items.append(Box(left, top, wide * n_columns, high * n_rows, stroke=LINE))
    bottom = top + high * n_rows
    if grid.under:
        items += words_under(grid.under, left, bottom, wide, high * n_rows)
        bottom += ROW + 6
    scale = draw_range(grid, numbers)
    items += [moved(item, left, bottom + 10) for item in scale.items]
    width = max(left + wide * n_columns + (30 if is_turned else 4), left + scale.width, title.width)
    return Drawing(width, bottom + 10 + scale.height, tuple(items), grid.title)


def words_under(spans: Sequence[Span], left: float, top: float, wide: float, height: float) -> Iterator[Item]:
    """Words below the columns that they belong to, a stroke over each, and dashes up through the grid where they begin."""
    for span in spans:
        begins, ends = left + span.first * wide, left + (span.last + 1) * wide
        yield Stroke(((begins, top - height), (begins, top)), "#8a9096", 0.8, dashed=True)
        yield Stroke(((begins + 1, top + 4), (max(ends - 1, begins + 2), top + 4)), BAR_COLOUR, 2.0)
        yield Text((begins + ends) / 2, top + 4 + ROW / 2, span.text, 11, "middle")


def written(grid: Grid, numbers: Numbers) -> list[list[str]] | None:
    """Every cell as text, where the grid is small enough to read it."""
    if grid.kind == "rule" or len(grid.columns) > NUMBERED[0] or len(grid.rows) > NUMBERED[1]:
        return None
    page = Page(80, Numbers(min(numbers.digits, 3)))
    return [
        ["" if np.isnan(value) else cell_in_grid(value, page.numbers.digits, page) for value in row]
        for row in grid.values
    ]


def names(
    rows: Sequence[str], columns: Sequence[str], left: float, top: float, wide: float, high: float, is_turned: bool
) -> Iterator[Item]:
    """The names of rows and columns, as many as there is room for."""
    for r in range(0, len(rows), max(1, round(11 / high))):
        yield Text(left - 6, top + (r + 0.5) * high, rows[r], 11, "end", mono=True)
    for c in range(0, len(columns), max(1, round(11 / wide)) if is_turned else 1):
        x = left + (c + 0.5) * wide
        if is_turned:
            yield Text(x, top - 6, columns[c], 11, "start", mono=True, turned=90)
        else:
            yield Text(x, top - 11, columns[c], 11, "middle", mono=True)


def moments(
    rows: Sequence[str], columns: Sequence[str], left: float, top: float, wide: float, high: float
) -> Iterator[Item]:
    """The names of rows, and so many moments above the columns that none touches another, each with a tick."""
    for r in range(0, len(rows), max(1, math.ceil(12 / high - 0.2))):
        yield Text(left - 6, top + (r + 0.5) * high, rows[r], 11, "end", mono=True)
    longest = max((text_width(label, 11, mono=True) for label in columns), default=0.0)
    for c in range(0, len(columns), max(1, math.ceil((longest + 10) / wide))):
        yield Stroke(((left + c * wide, top - 4), (left + c * wide, top)), FAINT)
        yield Text(left + c * wide, top - 11, columns[c], 11, "middle", mono=True)


def cells(
    grid: Grid, texts: list[list[str]] | None, left: float, top: float, wide: float, high: float
) -> Iterator[Item]:
    """The cells themselves."""
    shades = grid.shades()
    colours = paint(shades, grid.kind, len(grid.legend))
    if grid.values.size > DRAWN:
        colours[np.isnan(shades)] = (232, 236, 240)
        yield Raster(left, top, wide * len(grid.columns), high * len(grid.rows), colours)
        return
    for r, c in np.ndindex(grid.values.shape):
        x, y = left + c * wide, top + r * high
        if np.isnan(shades[r, c]):
            yield Box(x, y, wide, high, "#f4f5f6", hatched=True)
            continue
        yield Box(x, y, wide, high, hexadecimal(colours[r, c].tolist()))
        if texts is not None:
            yield Text(
                x + wide / 2, y + high / 2, texts[r][c], 10.5, "middle", ink_on(colours[r, c].tolist()), mono=True
            )


def draw_range(grid: Grid, numbers: Numbers) -> Drawing:
    """The colours with the numbers at their ends, or the names of the rules."""
    items: list[Item] = []
    x = 0.0
    if grid.kind == "rule":
        codes = sorted({int(code) for code in grid.values[~np.isnan(grid.values)].ravel().tolist()})
        for code in codes:
            colour = paint(np.array(code / max(len(grid.legend) - 1, 1)), "rule", len(grid.legend))
            items += [Box(x, 4, 12, 12, hexadecimal(colour.tolist()), LINE), Text(x + 17, 10, grid.legend[code], 11)]
            x += 17 + text_width(grid.legend[code], 11) + GAP
    else:
        low, high = (numbers.show(end) for end in grid.ends)
        items.append(Text(0, 10, low, 11, mono=True))
        x = text_width(low, 11, mono=True) + 6
        colours = paint(np.linspace(0, 1, 61), grid.kind)
        items.append(Raster(x, 4, 122, 12, colours[None]))
        items.append(Text(x + 128, 10, high, 11, mono=True))
        x += 134 + text_width(high, 11, mono=True)
    if np.isnan(grid.values).any():
        items += [Box(x + 8, 4, 12, 12, "#f4f5f6", LINE, hatched=True), Text(x + 25, 10, "hidden", 11)]
        x += 80
    return Drawing(x, 20, tuple(items))


COLUMN, NODE = 128.0, 34.0  # from one step of a tree to the next, and from one node to the next below
STATES = {"kept": KEPT, "pruned": PRUNED, "finished": FINISHED}


def draw_tree(tree: Tree, numbers: Numbers) -> Drawing:
    """Steps from left to right, the nodes of each below one another in their order."""
    places: list[tuple[float, float]] = []
    filled: dict[int, int] = {}
    for twig in tree.twigs:
        row = filled.get(twig.depth, 0)
        filled[twig.depth] = row + 1
        places.append(((twig.depth + 1) * COLUMN, (row + 0.5) * NODE))
    deepest, most = max(filled, default=0), max(filled.values(), default=1)
    title = draw_words(tree.title, SIZE, bold=True) if tree.title else Drawing(0, 0)
    start = (0.0, most * NODE / 2)
    items: list[Item] = []
    for twig, place in zip(tree.twigs, places, strict=True):
        before = start if twig.parent is None else places[twig.parent]
        items.append(edge(twig, before, place))
    root = shorten(tree.root, 14)
    items += [Box(0, start[1] - 9, COLUMN - 30, 18, "#ffffff", INK), Text(6, start[1], root, 10.5, mono=True)]
    for twig, place in zip(tree.twigs, places, strict=True):
        items += node(twig, place, numbers)
    height = most * NODE
    legend = [
        Box(0, height + 8, 12, 12, "#ffffff", KEPT), Text(17, height + 14, "• gone on from", 11),
        Box(140, height + 8, 12, 12, "#ffffff", PRUNED, dashed=True), Text(157, height + 14, "✗ pruned", 11),
        Box(250, height + 8, 12, 12, "#d9f0e6", FINISHED), Text(267, height + 14, "✓ finished", 11),
    ]  # fmt: skip
    below = [moved(item, 0, title.height) for item in (*items, *legend)]
    width = max((deepest + 2) * COLUMN, 360.0, title.width)
    return Drawing(width, title.height + height + 26, (*title.items, *below), tree.title)


def edge(twig: Twig, before: tuple[float, float], place: tuple[float, float]) -> Stroke:
    """From a parent to its child."""
    x = before[0] + COLUMN - 30
    middle = (x + place[0]) / 2
    points = ((x, before[1]), (middle, before[1]), (middle, place[1]), place)
    return Stroke(points, STATES[twig.state], 1.0 if twig.state == "pruned" else 1.8, twig.state == "pruned")


def node(twig: Twig, place: tuple[float, float], numbers: Numbers) -> Iterator[Item]:
    """A node: its token, and its first number below."""
    x, y = place
    is_pruned, colour = twig.state == "pruned", STATES[twig.state]
    fill = "#d9f0e6" if twig.state == "finished" else "#ffffff"
    yield Box(x, y - 14, COLUMN - 30, 28, fill, colour, dashed=is_pruned)
    mark = {"kept": "•", "pruned": "✗", "finished": "✓"}[twig.state]
    yield Text(x + 5, y - 6, f"{mark} {shorten(twig.label, 12)}", 10.5, colour=FAINT if is_pruned else INK, mono=True)
    if twig.numbers:
        name, value = twig.numbers[0]
        yield Text(x + 5, y + 7, f"{name} {Numbers(min(numbers.digits, 3)).show(value)}", 9, colour=FAINT, mono=True)
