"""The walk through a norm: mean and deviation, or root mean square, then one normalised cell."""

# D width of what is normalised

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from glassformer.lens.parts import Check, Equation, Line, Section
from glassformer.lens.scene import Scene
from glassformer.nn.norms import LayerNorm, RMSNorm


@dataclass(frozen=True, slots=True)
class Site:
    """A norm somewhere in the model: its module and path, the vector it takes (D, float64), and the cell followed.

    `index` are the tensor's axes before the normalised one: the token, or token and head. `x` and `y` are what the
    formulas call the vector before and after; `magnitude` is the size of what was added up to make the vector.
    """

    norm: LayerNorm | RMSNorm
    path: str
    vector: Tensor
    index: tuple[int, ...]
    channel: int
    x: str = "x"
    y: str = "y"
    magnitude: float = 0.0

    @property
    def out(self) -> str:
        """The full name of the normalised tensor."""
        return f"{self.path}.out"

    @property
    def cell(self) -> tuple[int, ...]:
        """The index of the cell followed in it."""
        return (*self.index, self.channel)

    @property
    def gain(self) -> float | None:
        """What the cell is multiplied with, if anything."""
        return None if self.norm.weight is None else float(self.norm.weight[self.channel])

    @property
    def bias(self) -> float | None:
        """What is then added to it, if anything."""
        return None if self.norm.bias is None else float(self.norm.bias[self.channel])


@dataclass(frozen=True, slots=True)
class Steps:
    """The arithmetic of a norm at one site."""

    formula: tuple[str, ...]
    body: tuple[Line, ...]
    checks: tuple[Check, ...]


def norm_steps(scene: Scene, site: Site) -> Steps:
    """The arithmetic of whichever norm stands at this site."""
    return NORM_STEPS[type(site.norm)](scene, site)


def layer_norm(scene: Scene, site: Site) -> Steps:
    """(x - mean)/std·gain + bias (Ba et al. 2016)."""
    show, x, d, at = scene.numbers.show, site.x, len(site.vector), (*site.index, 0)
    total = scene.numbers.terms(site.vector)
    mean = total.total / d
    squares = scene.numbers.squares(site.vector - mean)
    std = math.sqrt(squares.total / d + site.norm.eps)
    here, largest = float(site.vector[site.channel]), max(float(site.vector.abs().max()), site.magnitude)
    written = f"({show(here)} {scene.numbers.minus(mean)})/{show(std)}"
    last, check = gain_and_bias(scene, site, written, (here - mean) / std, largest / std)
    body = (
        Equation(f"Σ {x}", (*total.pieces, f"= {show(total.total)}")),
        Equation("mean", (f"= {show(total.total)}/{d}", f"= {show(mean)}")),
        Equation(f"Σ ({x} - mean)²", (*squares.pieces, f"= {show(squares.total)}")),
        Equation("std", (f"= √({show(squares.total)}/{d} + {site.norm.eps:g})", f"= {show(std)}")),
        last,
    )
    checks = (
        scene.check("mean", f"{site.path}.mean", at, mean, largest),
        scene.check("std", f"{site.path}.std", at, std, largest),
        check,
    )
    formula = (f"{site.y} = ({x} - mean)/std{ending(site)}", f"mean = Σ {x}/D", f"std = √(Σ ({x} - mean)²/D + ε)")
    return Steps(formula, body, checks)


def rms_norm(scene: Scene, site: Site) -> Steps:
    """x/rms·gain (Zhang and Sennrich 2019)."""
    show, x, d = scene.numbers.show, site.x, len(site.vector)
    squares = scene.numbers.squares(site.vector)
    rms = math.sqrt(squares.total / d + site.norm.eps)
    here = float(site.vector[site.channel])
    last, check = gain_and_bias(
        scene, site, f"{show(here)}/{show(rms)}", here / rms, max(abs(here), site.magnitude) / rms
    )
    body = (
        Equation(f"Σ {x}²", (*squares.pieces, f"= {show(squares.total)}")),
        Equation("rms", (f"= √({show(squares.total)}/{d} + {site.norm.eps:g})", f"= {show(rms)}")),
        last,
    )
    checks = (scene.check("rms", f"{site.path}.rms", (*site.index, 0), rms, site.magnitude), check)
    return Steps((f"{site.y} = {x}/rms{ending(site)}", f"rms = √(Σ {x}²/D + ε)"), body, checks)


NORM_STEPS: dict[type[nn.Module], Callable[[Scene, Site], Steps]] = {LayerNorm: layer_norm, RMSNorm: rms_norm}


def ending(site: Site) -> str:
    """The end of the formula: ``·gain + bias``, as far as the norm has them."""
    return ("" if site.gain is None else "·gain") + ("" if site.bias is None else " + bias")


def gain_and_bias(scene: Scene, site: Site, written: str, normalised: float, size: float) -> tuple[Equation, Check]:
    """The last line and its check: the normalised number, times the gain, plus the bias."""
    gain, bias = 1.0 if site.gain is None else site.gain, site.bias or 0.0
    pieces = [f"= {written}" + ("" if site.gain is None else f"×{scene.numbers.show(gain)}")]
    if site.bias is not None:
        pieces.append(scene.numbers.plus(bias))
    value = normalised * gain + bias
    equation = Equation(f"{site.y}[{site.channel}]", (*pieces, f"= {scene.numbers.show(value)}"))
    return equation, scene.check(site.y, site.out, site.cell, value, size * abs(gain) + abs(bias))


def before_attention(scene: Scene) -> Section | None:
    """The norm in front of attention, in blocks that have it there."""
    return norm_before(scene, "NORM BEFORE ATTENTION", "attention_norm", "resid_pre")


def before_mlp(scene: Scene) -> Section | None:
    """The norm in front of the MLP, in blocks that have it there."""
    return norm_before(scene, "NORM BEFORE THE MLP", "mlp_norm", "resid_mid")


def after_attention(scene: Scene) -> Section | None:
    """The norm behind attention's residual sum, in blocks that have it there."""
    return norm_after(scene, "NORM AFTER ATTENTION", "attention_norm", "resid_pre", "attention.out")


def after_mlp(scene: Scene) -> Section | None:
    """The norm behind the MLP's residual sum, in blocks that have it there."""
    return norm_after(scene, "NORM AFTER THE MLP", "mlp_norm", "resid_mid", "mlp.out")


def final(scene: Scene) -> Section | None:
    """The norm behind the last block, in models that have it."""
    if scene.config.norm_place == "post":
        return None
    x = scene.row(scene.last_stream, scene.position)
    return norm_section(scene, "LAST NORM", "decoder.norm", x)


def norm_before(scene: Scene, title: str, norm: str, stream: str) -> Section | None:
    """A norm of the residual stream."""
    if scene.config.norm_place == "post":
        return None
    return norm_section(scene, title, scene.here(norm), scene.row(scene.here(stream), scene.position))


def norm_after(scene: Scene, title: str, norm: str, stream: str, added: str) -> Section | None:
    """A norm of the residual stream and what a sublayer adds to it."""
    if scene.config.norm_place == "pre":
        return None
    x = scene.row(scene.here(stream), scene.position) + scene.row(scene.here(added), scene.position)
    return norm_section(scene, title, scene.here(norm), x)


def norm_section(scene: Scene, title: str, path: str, x: Tensor) -> Section:
    """A norm of the asking token's vector x: D, float64."""
    norm = scene.model.get_submodule(path)
    assert isinstance(norm, LayerNorm | RMSNorm)
    site = Site(norm, path, x, (scene.position,), scene.channel)
    steps = norm_steps(scene, site)
    return scene.section(
        title,
        "the vector brought to a common size, so that the next step works on its direction.",
        formula=steps.formula,
        name=site.out,
        cell=site.cell,
        body=steps.body,
        checks=steps.checks,
    )
