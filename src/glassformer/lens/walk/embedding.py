"""The walk from text to vectors: tokens, the rows of the embedding tables, and the code of the position."""

# T tokens, D model

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from glassformer.lens.parts import Equation, Line, Section, Table
from glassformer.lens.scene import Scene, exact, size_of_angle
from glassformer.nn.positions import Learned

LISTED_TOKENS = 24  # the longest text that is listed whole
ENDS, BEFORE = 4, 7  # tokens listed of a longer one: at either end, and before the asking token


def tokens(scene: Scene) -> Section:
    """The ids that the model reads."""
    count, p = len(scene.ids), scene.position
    listed = set(range(count))
    if count > LISTED_TOKENS:
        listed = {*range(ENDS), *range(max(p - BEFORE, 0), p + 1), *range(count - ENDS, count)}
    rows: list[tuple[str, str, str, str]] = []
    for at in sorted(listed):
        if at and at - 1 not in listed:
            rows.append(("…", "", "", ""))
        rows.append(token_row(scene, at))
    return scene.section(
        "TOKENS",
        f"the text in {count:,} piece{'s' if count > 1 else ''}, each known to the model by its number alone.",
        body=[Table(("position", "token", "id", ""), tuple(rows), "><><")],
    )


def token_row(scene: Scene, at: int) -> tuple[str, str, str, str]:
    """Position, text and id of a token, and a mark if it is the one that asks."""
    mark = "← asks" if at == scene.position else ""
    return str(at), scene.label(scene.ids[at]), str(scene.ids[at]), mark


def token_vector(scene: Scene) -> Section:
    """The asking token's row of the embedding table."""
    name, c, token = "decoder.embedding.token", scene.channel, scene.ids[scene.position]
    embedding = scene.model.decoder.embedding
    row = exact(embedding.token.weight[token])
    show = scene.numbers.show
    scale = embedding.scale or 1.0
    body: list[Line] = [f"E[{token}] = {scene.numbers.vector(row)}"]
    if embedding.scale is not None:
        root = f"√{scene.config.d_model}"
        body.append(Equation(f"x[{c}]", (f"= {show(float(row[c]))}×{root}", f"= {show(float(row[c]) * scale)}")))
    else:
        body.append(Equation(f"x[{c}]", (f"= E[{token},{c}]", f"= {show(float(row[c]))}")))
    return scene.section(
        "EMBEDDING",
        f"{scene.token(scene.position)} is row {token} of the table E, a vector of {scene.config.d_model} numbers.",
        formula=["x = E[id]·√D" if embedding.scale is not None else "x = E[id]"],
        name=name,
        cell=(scene.position, c),
        body=body,
        checks=[scene.check("x", name, (scene.position, c), float(row[c]) * scale)],
    )


def pair_vector(scene: Scene) -> Section | None:
    """The row of the bigram table for the asking token and the one before it."""
    embedding = scene.model.decoder.embedding
    if embedding.bigram is None:
        return None
    name, p, c = "decoder.embedding.bigram", scene.position, scene.channel
    ids, at = torch.tensor([scene.ids]), torch.arange(len(scene.ids))[None]
    row = int(embedding.pair(ids, at, None)[0, p])
    value = float(embedding.bigram.weight[row, c])
    pair = f"{scene.token(p - 1)} and {scene.token(p)}" if p else "the beginning of the text"
    return scene.section(
        "PAIR WITH THE TOKEN BEFORE",
        f"{pair} share row {row} of a second table." if p else f"{pair} has row 0 of a second table.",
        formula=["row = 1 + hash(id before, id) mod (rows - 1)", "(0 at the beginning)"],
        name=name,
        cell=(p, c),
        body=[Equation(f"pair[{c}]", (f"= table[{row},{c}]", f"= {scene.numbers.show(value)}"))],
        checks=[scene.check("pair", name, (p, c), value)],
    )


class Code(NamedTuple):
    """One channel of a position's code: formula, numbers, value, and the size of what was rounded on the way."""

    formula: tuple[str, ...]
    written: str
    value: float
    magnitude: float = 0.0


def sinusoidal_code(scene: Scene) -> Code:
    """Vaswani et al. 2017, section 3.5."""
    p, c, d = scene.position, scene.channel, scene.config.d_model
    wave, function = ("cos", math.cos) if c % 2 else ("sin", math.sin)
    angle = p / 10_000 ** (c // 2 * 2 / d)
    return Code(
        ("code[2i] = sin(position/10000^(2i/D))", "code[2i+1] = cos(the same)"),
        f"= {wave}({p} / 10000^({c // 2 * 2}/{d}))",
        function(angle),
        size_of_angle(angle),
    )


def learned_code(scene: Scene) -> Code:
    """A row of a table, one for each position."""
    positions = scene.model.decoder.positions
    assert isinstance(positions, Learned)
    p, c = scene.position, scene.channel
    return Code(("code = table[position]",), f"= table[{p},{c}]", float(positions.table.weight[p, c]))


ELSEWHERE = {  # schemes that add nothing to the embeddings -> where order enters
    "none": "this model is told nothing about order; only the mask knows which token came first.",
    "rotary": "nothing is added here; rotary positions turn queries and keys instead, further for every later token.",
    "alibi": "nothing is added here; with ALiBi each score loses a penalty that grows with the distance.",
    "relative": "nothing is added here; relative positions add a learned number for the distance to each score.",
}
CODES: dict[str, Callable[[Scene], Code]] = {"sinusoidal": sinusoidal_code, "learned": learned_code}


def position(scene: Scene) -> Section:
    """The code of the asking token's position, or where else this scheme brings order in."""
    scheme = scene.config.positions
    if scheme not in CODES:
        return scene.section("POSITION", ELSEWHERE.get(scheme, f"nothing is added here ({scheme})."))
    name, p, c = "decoder.embedding.position", scene.position, scene.channel
    code = CODES[scheme](scene)
    return scene.section(
        "POSITION",
        f"where the token stands, as a vector of the same length ({scheme}).",
        formula=code.formula,
        name=name,
        cell=(p, c),
        body=[Equation(f"code[{c}]", (code.written, f"= {scene.numbers.show(code.value)}"))],
        checks=[scene.check("code", name, (p, c), code.value, code.magnitude)],
    )


def embedding_sum(scene: Scene) -> Section | None:
    """Token, pair and position added up; nothing where there is the token alone."""
    p, c = scene.position, scene.channel
    parts = [part for part in ("token", "bigram", "position") if f"decoder.embedding.{part}" in scene.taps]
    if len(parts) == 1:
        return None
    name = "decoder.embedding.out"
    total = scene.numbers.terms(
        torch.tensor([scene.cell(f"decoder.embedding.{part}", p, c) for part in parts], dtype=torch.float64)
    )
    return scene.section(
        "SUM",
        "the vector with which the token enters the first layer.",
        formula=[f"x = {' + '.join(parts)}"],
        name=name,
        cell=(p, c),
        body=[Equation(f"x[{c}]", (*total.pieces, f"= {scene.numbers.show(total.total)}"))],
        checks=[scene.check("x", name, (p, c), total.total, total.magnitude)],
    )
