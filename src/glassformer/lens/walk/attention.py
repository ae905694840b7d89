"""The walk through what attention does with its scores: softmax, weighted sum of values, and back to model width."""

# T asking tokens, S tokens looked at, H heads, G key/value heads, V value width

from __future__ import annotations

from glassformer.lens.arithmetic import bar
from glassformer.lens.parts import Equation, Line, Section, Table
from glassformer.lens.scene import Scene, bias_of, exact
from glassformer.lens.walk.projections import CHANNEL
from glassformer.lens.walk.scores import unlisted


def softmax(scene: Scene) -> Section:
    """Scores turned into weights that sum to one."""
    name, j, show = scene.here("attention.pattern"), scene.key, scene.numbers.show
    cell = (scene.head, scene.position, j)
    masked, weights = (scene.row(point, scene.head, scene.position) for point in (scene.here("attention.masked"), name))
    powers = (masked - masked.max()).exp()
    power, total, seen = float(powers[j]), float(powers.sum()), powers.nonzero()[:, 0].tolist()
    total_written = scene.numbers.terms(powers[seen], index=seen)
    rows = tuple(
        (
            str(i),
            scene.label(scene.ids[i]),
            "hidden" if masked[i].isneginf() else show(float(powers[i])),
            show(float(weights[i])),
            bar(float(weights[i])),
        )
        for i in scene.listed_keys
    )
    return scene.section(
        "SOFTMAX",
        "scores become weights: none is negative, and together they are 1.",
        formula=["p[j] = exp(s[j] - max)/Σ exp(s - max)"],
        name=name,
        cell=cell,
        body=[
            Equation("max", (f"= {show(float(masked.max()))}",)),
            Table(("j", "token", "exp(s - max)", "p", ""), rows, "><>><"),
            *unlisted(scene),
            Equation("Σ exp", (*total_written.pieces, f"= {show(total)}")),
            Equation(f"p[{j}]", (f"= {show(power)}/{show(total)}", f"= {show(power / total)}")),
        ],
        checks=[scene.check("p", name, cell, power / total)],
    )


def weighted_sum(scene: Scene) -> Section:
    """The values of all tokens, each as strongly as it is looked at."""
    name, show = scene.here("attention.z"), scene.numbers.show
    cell = (scene.head, scene.position, CHANNEL)
    weights = scene.row(scene.here("attention.pattern"), scene.head, scene.position)
    values = scene.row(scene.here("attention.v"), scene.group)[:, CHANNEL]
    seen = weights.nonzero()[:, 0].tolist()
    total = scene.numbers.products(weights[seen], values[seen], index=seen)
    return scene.section(
        "WEIGHTED SUM",
        f"what head {scene.head} brings to token {scene.position}: every value, as strongly as its token is looked at.",
        formula=["z = Σ p[j]·v[j]"],
        name=name,
        cell=cell,
        body=[
            Equation(f"z[{CHANNEL}]", (*total.pieces, f"= {show(total.total)}")),
            f"z = {scene.numbers.vector(scene.row(name, scene.head, scene.position))}",
        ],
        checks=[scene.check("z", name, cell, total.total, total.magnitude)],
    )


def output(scene: Scene) -> Section:
    """All heads side by side, mapped back to the model's width."""
    attention, c = scene.attention, scene.channel
    name, cell, projection = scene.here("attention.out"), (scene.position, c), scene.attention.o_proj
    side_by_side = scene.row(scene.here("attention.z"))[:, scene.position].flatten()  # H·V
    weight = exact(projection.weight[c])
    total = scene.numbers.products(side_by_side, weight, bias_of(projection, c))
    by_head = (side_by_side * weight).unflatten(0, (attention.n_heads, attention.d_value)).sum(-1)
    body: list[Line] = [Equation(f"out[{c}]", (*total.pieces, f"= {scene.numbers.show(total.total)}"))]
    if attention.n_heads > 1:
        body.append(f"head by head: {scene.numbers.vector(by_head, 8)}")
    whose = f"the z of all {attention.n_heads} heads side by side" if attention.n_heads > 1 else "z"
    return scene.section(
        "OUTPUT OF ATTENTION",
        f"{whose}, mapped back to the model's width.",
        formula=["out[d] = Σ z[n]·W_o[d,n]" + ("" if projection.bias is None else " + b[d]")],
        name=name,
        cell=cell,
        body=body,
        checks=[scene.check("out", name, cell, total.total, total.magnitude)],
    )
