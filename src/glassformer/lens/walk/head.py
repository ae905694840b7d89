"""The walk from the last vector to the next token: logits, probabilities, the sampling stages, and the number drawn."""

# D model, N vocabulary

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from glassformer.generate.sampling import Draw, Sampling, count_tokens, draw, uniform
from glassformer.lens.arithmetic import bar
from glassformer.lens.parts import Check, Equation, Line, Section, Table
from glassformer.lens.scene import Scene, bias_of, exact

TOP = 5  # tokens that tables list
NEIGHBOURS = 2  # tokens listed on either side of the one drawn

STAGES_SAY = {  # a field of Sampling -> what its stage does
    "repetition_penalty": "logits of tokens seen before are divided by it if positive, multiplied if negative",
    "presence_penalty": "the logit of each token seen before loses it",
    "frequency_penalty": "the logit of each token loses it once for each time the token was seen",
    "temperature": "logits are divided by it (at 0 only the largest is kept)",
    "top_k": "only that many of the largest are kept",
    "top_p": "the largest are kept until they hold this share",
    "min_p": "those at least this many times as likely as the likeliest are kept",
}


def logits(scene: Scene) -> Section:
    """A score for each entry of the vocabulary."""
    head, show, row = scene.model.head, scene.numbers.show, final_logits(scene)
    winner = top(row)[0]
    total = scene.numbers.products(last_vector(scene), exact(head.linear.weight[winner]), bias_of(head.linear, winner))
    value = total.total
    formula = ["logit[n] = Σ x[d]·W[n,d]" + ("" if head.linear.bias is None else " + b[n]")]
    body: list[Line] = [Equation(f"logit[{winner}]", (*total.pieces, f"= {show(value)}"))]
    if head.scale != 1.0:
        formula.append(f"times {head.scale:g}")
        body.append(Equation("scaled", (f"= {show(value)}×{head.scale:g}", f"= {show(value * head.scale)}")))
        value *= head.scale
    if head.softcap is not None:
        formula.append("capped: c·tanh(logit/c)")
        written = f"= {head.softcap:g}×tanh({show(value)}/{head.softcap:g})"
        value = head.softcap * math.tanh(value / head.softcap)
        body.append(Equation("capped", (written, f"= {show(value)}")))
    if scene.config.tied:
        formula.append("W = E, the embedding table")
    rows = tuple((scene.label(n), str(n), show(float(row[n]))) for n in top(row))
    cell = (scene.position, winner)
    return scene.section(
        "LOGITS",
        f"a score for each of {len(row):,} tokens; worked out for the highest, '{scene.label(winner)}'.",
        formula=formula,
        name="head.logits",
        cell=cell,
        body=[*body, Table(("token", "id", "logit"), rows, "<>>")],
        checks=[scene.check("logit", "head.logits", cell, value, total.magnitude * head.scale)],
    )


def probabilities(scene: Scene) -> Section:
    """The model's own distribution over the next token."""
    row, show = final_logits(scene), scene.numbers.show
    listed, powers = top(row), (row - row.max()).exp()
    ours, total = powers / powers.sum(), float(powers.sum())
    theirs = distribution(draw(row, Sampling(), scene.seen_ids, 0.0, keep_probabilities=True))
    rows = tuple(
        (scene.label(n), show(float(row[n])), show(float(powers[n])), show(float(theirs[n])), bar(float(theirs[n])))
        for n in listed
    )
    others, winner = len(row) - len(listed), listed[0]
    rest = max(1 - float(theirs[listed].sum()), 0.0)
    return scene.section(
        "PROBABILITIES",
        "the softmax again, now over the vocabulary: how likely each token is to come next.",
        formula=["p[n] = exp(logit[n] - max)/Σ exp(logit - max)"],
        body=[
            Table(("token", "logit", "exp(logit - max)", "p", ""), rows, "<>>><"),
            *([f"({others:,} others share {show(rest)})"] if others else []),
            Equation(f"p[{winner}]", (f"= {show(1.0)}/{show(total)}", f"= {show(1 / total)}")),
        ],
        checks=[compare(scene, f"p of all {len(row):,} tokens, largest difference", theirs, ours)],
    )


def sampling(scene: Scene) -> Section | None:
    """What each sampling stage leaves of the distribution."""
    row, show, drawn = final_logits(scene), scene.numbers.show, choice(scene)
    if not drawn.stages:
        return None
    counts, after = count_tokens(scene.seen_ids, len(row)), [row]
    for _, stage, setting in scene.sampling.stages():
        after.append(stage(after[-1], setting, counts))
    shares = [scores.softmax(-1) for scores in after]
    listed = list(dict.fromkeys([*top(row), drawn.token]))
    head = ("token", "model", *(f"after {number}" for number in range(1, len(after))))
    rows = tuple((scene.label(n), *(show(float(p[n])) for p in shares)) for n in listed)
    return scene.section(
        "SAMPLING",
        "what the settings leave of the distribution, stage by stage.",
        body=[*tell_stages(scene, drawn), Table(head, rows, "<" + ">" * len(after))],
        checks=[compare(scene, "p after the last stage, largest difference", distribution(drawn), shares[-1])],
    )


def tell_stages(scene: Scene, drawn: Draw) -> Iterator[str]:
    """A sentence for each stage: its setting, what it does, and what it keeps if it cuts anything."""
    left = scene.n_tokens
    for number, stage in enumerate(drawn.stages, start=1):
        ending = "."
        if stage.kept < left:
            ending = f"; {stage.kept:,} of {left:,} are left, which held {scene.numbers.show(stage.mass)}."
        left = stage.kept
        yield f"{number}. {stage.name} = {stage.setting:g}: {STAGES_SAY.get(stage.name, 'another stage')}{ending}"


def drawing(scene: Scene) -> Section:
    """The number u, and the token in whose interval it falls."""
    drawn, show, finely = choice(scene), scene.numbers.show, scene.numbers.finely
    p = distribution(drawn)
    sums = p.cumsum(-1) / p.sum()
    below, above = float(sums[drawn.token - 1]) if drawn.token else 0.0, float(sums[drawn.token])
    possible = p.nonzero()[:, 0].tolist()
    at = possible.index(drawn.token)
    rows = tuple(
        (
            str(n),
            scene.label(n),
            show(float(p[n])),
            finely(float(sums[n])),
            "← u falls here" if n == drawn.token else "",
        )
        for n in possible[max(at - NEIGHBOURS, 0) : at + NEIGHBOURS + 1]
    )
    outside = 0.0 if drawn.below <= drawn.u < drawn.above else 1.0
    return scene.section(
        "THE TOKEN DRAWN",
        f"u = {finely(drawn.u)} falls to '{scene.label(drawn.token)}'.",
        formula=[
            f"u = hash(seed {scene.seed}, sample 0, step {scene.step})",
            "the first token, in the order of ids,",
            "whose cumulative p exceeds u",
        ],
        body=[
            Table(("id", "token", "p", "cumulative p", ""), rows, "><>><"),
            f"{finely(drawn.below)} ≤ u = {finely(drawn.u)} < {finely(drawn.above)}",
        ],
        checks=[
            Check("cumulative p before it", abs(drawn.below - below), scene.rounding, drawn.below, below),
            Check("cumulative p with it", abs(drawn.above - above), scene.rounding, drawn.above, above),
            Check("u lies between them", outside, 0.0),
        ],
    )


def choice(scene: Scene) -> Draw:
    """The draw that `generate` makes at this step."""
    u = uniform(scene.seed, 0, scene.step)
    return draw(final_logits(scene), scene.sampling, scene.seen_ids, u, keep_probabilities=True)


def distribution(drawn: Draw) -> Tensor:
    """The probabilities that a draw was made from: N, float64."""
    assert drawn.probabilities is not None
    return drawn.probabilities


def final_logits(scene: Scene) -> Tensor:
    """The asking token's logits, of the ids that have a token: N, float64."""
    return scene.row("head.logits", scene.position)[: scene.n_tokens]


def last_vector(scene: Scene) -> Tensor:
    """What the head reads of the asking token: D, float64."""
    return scene.row("decoder.norm.out" if scene.config.norm_place == "pre" else scene.last_stream, scene.position)


def top(row: Tensor) -> list[int]:
    """The ids of the highest scores, highest first, of equal ones the lowest id first."""
    return row.argsort(descending=True, stable=True)[:TOP].tolist()


def compare(scene: Scene, label: str, theirs: Tensor, ours: Tensor) -> Check:
    """Probabilities that `generate` gives against the same ones worked out here."""
    return Check(label, float((theirs - ours).abs().max()), scene.rounding)
