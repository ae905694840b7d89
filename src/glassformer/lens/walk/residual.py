"""The walk along the residual stream: what each sublayer adds, and the layers that are not walked through."""

# D model

from __future__ import annotations

import torch

from glassformer.lens.parts import Equation, Section, Table
from glassformer.lens.scene import Scene


def after_attention(scene: Scene) -> Section:
    """What attention brings, added to what the token was."""
    return residual(scene, "resid_pre", "attention.out", "resid_mid", "attention_norm.out", "what attention brings")


def after_mlp(scene: Scene) -> Section:
    """What the MLP brings, added to what the token was."""
    return residual(scene, "resid_mid", "mlp.out", "resid_post", "mlp_norm.out", "what the MLP brings")


def residual(scene: Scene, before: str, added: str, after: str, norm: str, what: str) -> Section:
    """x + sublayer. In blocks that normalise behind the sum, the sum itself has no name and the norm is checked next."""
    p, c = scene.position, scene.channel
    total = scene.numbers.terms(
        torch.tensor([scene.cell(scene.here(name), p, c) for name in (before, added)], dtype=torch.float64)
    )
    equation = Equation(f"x[{c}]", (*total.pieces, f"= {scene.numbers.show(total.total)}"))
    if scene.config.norm_place == "post":
        return scene.section(
            "RESIDUAL SUM",
            f"{what} is added to the token's vector; the next step normalises the sum.",
            formula=[f"x = {before} + {added}"],
            body=[equation],
        )
    name = scene.here(after)
    return scene.section(
        "RESIDUAL SUM",
        f"{what} is added to the token's vector, which carries all that came before.",
        formula=[f"{after} = {before} + {added}"],
        name=name,
        cell=(p, c),
        body=[equation],
        checks=[scene.check("sum", name, (p, c), total.total, total.magnitude)],
    )


def layers_below(scene: Scene) -> Section | None:
    """The layers before the one walked through."""
    return layers(scene, range(scene.layer), "LAYERS BELOW")


def layers_above(scene: Scene) -> Section | None:
    """The layers behind the one walked through."""
    return layers(scene, range(scene.layer + 1, scene.config.n_layers), "LAYERS ABOVE")


def layers(scene: Scene, which: range, title: str) -> Section | None:
    """How long the asking token's vector is before, what attention and MLP add, and how long it is after each layer."""
    if not which:
        return None
    points = ("resid_pre", "attention.out", "mlp.out", "resid_post")
    rows = tuple(
        (str(layer), *(scene.numbers.show(length(scene, f"decoder.blocks.{layer}.{point}")) for point in points))
        for layer in which
    )
    return scene.section(
        title,
        f"the same steps again; here only the length of token {scene.position}'s vector, and of what is added to it.",
        formula=["‖x‖ = √(Σ x²)"],
        body=[Table(("layer", "‖x‖ in", "‖attention‖", "‖mlp‖", "‖x‖ out"), rows, ">>>>>")],
    )


def length(scene: Scene, name: str) -> float:
    """The length of the asking token's vector at a point."""
    return float(scene.row(name, scene.position).norm())
