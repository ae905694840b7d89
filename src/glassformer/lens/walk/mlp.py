"""The walk through the MLP of a block: one hidden neuron on the way up, one channel on the way down."""

# D model, F hidden width

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from glassformer.lens.parts import Check, Equation, Line, Section
from glassformer.lens.scene import Scene, bias_of, exact
from glassformer.nn.mlp import GatedMlp, Mlp


class Activation(NamedTuple):
    """A nonlinearity: its name, its formula, and the function worked out on one number."""

    name: str
    formula: str
    apply: Callable[[float], float]


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), without overflow."""
    return 0.5 * (1 + math.tanh(x / 2))


RELU = Activation("relu", "max(0, x)", lambda x: max(0.0, x))
RELU2 = Activation("relu²", "max(0, x)²", lambda x: max(0.0, x) ** 2)
SILU = Activation("silu", "x/(1 + exp(-x))", lambda x: x * sigmoid(x))
GELU = Activation("gelu", "x·(1 + erf(x/√2))/2", lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2)
GELU_TANH = Activation(
    "gelu",
    "x·(1 + tanh(√(2/π)·(x + 0.044715·x^3)))/2",
    lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
)

ACTIVATIONS: dict[str, Activation] = {  # a row of MLPS -> its nonlinearity
    "relu": RELU,
    "relu2": RELU2,
    "silu": SILU,
    "gelu": GELU,
    "gelu_tanh": GELU_TANH,
    "swiglu": SILU,
    "geglu": GELU,
    "geglu_tanh": GELU_TANH,
    "reglu2": RELU2,
}


def hidden(scene: Scene) -> Section:
    """The pre-activation, or gate and up, of the neuron followed."""
    mlp, f = scene.block.mlp, neuron(scene)
    x = mlp_input(scene)
    if isinstance(mlp, GatedMlp):
        b = "" if mlp.gate_proj.bias is None else " + b[f]"
        gate, gate_check = project(scene, x, mlp.gate_proj, "gate", f)
        up, up_check = project(scene, x, mlp.up_proj, "up", f)
        return scene.section(
            "MLP, ON THE WAY UP",
            f"{scene.config.d_ff} neurons, each a gate and a content; neuron {f} matters most for channel {scene.channel}.",
            formula=["gate[f] = Σ x[d]·W_gate[f,d]" + b, "up[f] = Σ x[d]·W_up[f,d]" + b],
            name=scene.here("mlp.gate"),
            cell=(scene.position, f),
            body=[gate, up],
            checks=[gate_check, up_check],
        )
    assert isinstance(mlp, Mlp)
    pre, check = project(scene, x, mlp.up_proj, "pre", f)
    return scene.section(
        "MLP, ON THE WAY UP",
        f"{scene.config.d_ff} neurons, each a weighted sum; neuron {f} matters most for channel {scene.channel}.",
        formula=["pre[f] = Σ x[d]·W_up[f,d]" + ("" if mlp.up_proj.bias is None else " + b[f]")],
        name=scene.here("mlp.pre"),
        cell=(scene.position, f),
        body=[pre],
        checks=[check],
    )


def project(scene: Scene, x: Tensor, linear: nn.Linear, point: str, f: int) -> tuple[Line, Check]:
    """One neuron's weighted sum, and its check."""
    total = scene.numbers.products(x, exact(linear.weight[f]), bias_of(linear, f))
    equation = Equation(f"{point}[{f}]", (*total.pieces, f"= {scene.numbers.show(total.total)}"))
    return equation, scene.check(point, scene.here(f"mlp.{point}"), (scene.position, f), total.total, total.magnitude)


def activation(scene: Scene) -> Section:
    """The neuron's answer: the nonlinearity, times the content where the MLP is gated."""
    f, p, show, bend = neuron(scene), scene.position, scene.numbers.show, nonlinearity(scene)
    name = scene.here("mlp.act")
    if isinstance(scene.block.mlp, GatedMlp):
        gate, up = (scene.cell(scene.here(f"mlp.{point}"), p, f) for point in ("gate", "up"))
        bent = bend.apply(gate)
        value, magnitude = bent * up, abs(gate * up)
        says = "a neuron passes its content on as far as its gate is open."
        formula = f"act = {bend.name}(gate)·up"
        body: list[Line] = [
            Equation(f"{bend.name}({show(gate)})", (f"= {show(bent)}",)),
            Equation(f"act[{f}]", (f"= {show(bent)}×{show(up)}", f"= {show(value)}")),
        ]
    else:
        pre = scene.cell(scene.here("mlp.pre"), p, f)
        value, magnitude = bend.apply(pre), abs(pre)
        says = "the bend without which two linear maps would be one."
        formula = f"act = {bend.name}(pre)"
        body = [Equation(f"act[{f}]", (f"= {bend.name}({show(pre)})", f"= {show(value)}"))]
    silent = int(scene.row(name, p).eq(0).sum())
    if silent:
        body.append(f"{silent} of {scene.config.d_ff} neurons are silent (exactly 0) at this token.")
    return scene.section(
        "ACTIVATION",
        says,
        formula=[formula, f"{bend.name}(x) = {bend.formula}"],
        name=name,
        cell=(p, f),
        body=body,
        checks=[scene.check("act", name, (p, f), value, magnitude)],
    )


def output(scene: Scene) -> Section:
    """All neurons, weighed, back at the model's width."""
    p, c, name, down = scene.position, scene.channel, scene.here("mlp.out"), down_projection(scene)
    total = scene.numbers.products(scene.row(scene.here("mlp.act"), p), exact(down.weight[c]), bias_of(down, c))
    return scene.section(
        "OUTPUT OF THE MLP",
        "every neuron writes into every channel, as strongly as it is active.",
        formula=["out[d] = Σ act[f]·W_down[d,f]" + ("" if down.bias is None else " + b[d]")],
        name=name,
        cell=(p, c),
        body=[Equation(f"out[{c}]", (*total.pieces, f"= {scene.numbers.show(total.total)}"))],
        checks=[scene.check("out", name, (p, c), total.total, total.magnitude)],
    )


def neuron(scene: Scene) -> int:
    """The hidden neuron that writes most into the channel followed."""
    act = scene.row(scene.here("mlp.act"), scene.position)
    return int((act * exact(down_projection(scene).weight[scene.channel])).abs().argmax())


def down_projection(scene: Scene) -> nn.Linear:
    """The linear map from the hidden neurons back to the model's width."""
    mlp = scene.block.mlp
    assert isinstance(mlp, Mlp | GatedMlp)
    return mlp.down_proj


def nonlinearity(scene: Scene) -> Activation:
    """The nonlinearity of this model's MLP; one that has no formula here is worked out by the model's own function."""
    mlp, name = scene.block.mlp, scene.config.mlp
    assert isinstance(mlp, Mlp | GatedMlp)
    bend = mlp.activation
    own = Activation(name, "the model's own", lambda x: float(bend(torch.tensor(x, dtype=torch.float64))))
    return ACTIVATIONS.get(name, own)


def mlp_input(scene: Scene) -> Tensor:
    """The vector that the MLP reads of the asking token: D, float64."""
    point = "mlp_norm.out" if scene.config.norm_place == "pre" else "resid_mid"
    return scene.row(scene.here(point), scene.position)
