"""Nodes of what comes out of a model: logits, vectors, probabilities, losses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from glassformer.lens.graph.layers import linear_node, norm_nodes
from glassformer.lens.recipes import head
from glassformer.lens.recipes.recipe import Node, given, point, weight
from glassformer.models import Model, ModelConfig
from glassformer.models.heads import CtcHead, Head, HiddenLayer, LabelHead, PooledHead, TagHead


def head_nodes(model: Model, x: str, stack_name: str) -> Iterator[Node]:
    """From the last vectors to logits, or to the vector of the text."""
    module = model.head
    at = given(f"{stack_name}.at")
    heard = stack_name == "encoder" and model.config.vectors is not None
    if isinstance(module, Head):
        if module.hidden is not None and module.norm is not None:
            yield from hidden_nodes(module.hidden, model.config, x, "i d")
            yield from norm_nodes("head.norm", module.norm, "head.hidden.out")
            x = "head.norm.out"
        yield from token_head_nodes(
            module,
            x,
            "head.linear" if not model.config.tied else f"{stack_name}.embedding.token",
            HEARD if heard else NEXT,
        )
        return
    if isinstance(module, LabelHead | PooledHead):
        yield Node("head.pooled", POOLED[model.config.pooling](), {"x": point(x), "at": at})
    if isinstance(module, PooledHead) and not module.normalise:
        yield Node("head.out", head.as_pooled(), {"pooled": point("head.pooled")})
    elif isinstance(module, PooledHead):
        yield Node("head.length", head.length(), {"pooled": point("head.pooled")}, tapped=False)
        inputs = {"pooled": point("head.pooled"), "length": point("head.length")}
        yield Node("head.out", head.unit(), inputs)
    elif isinstance(module, LabelHead):
        says, read = "how much speaks for each label", "head.pooled"
        if module.hidden is not None:
            yield from hidden_nodes(module.hidden, model.config, read, "d")
            read = "head.hidden.out"
        yield linear_node("head.logits", module.linear, "head.linear", read, says, reads="d", out="n")
    elif isinstance(module, TagHead):
        says = "how much speaks for each label, for each token"
        yield linear_node("head.logits", module.linear, "head.linear", x, says, reads="i d", out="i n")


POOLED = {"mean": head.pooled_mean, "first": head.pooled_first, "max": head.pooled_max}


def hidden_nodes(module: HiddenLayer, config: ModelConfig, x: str, letters: str) -> Iterator[Node]:
    """The layer before the head."""
    here, says = "head.hidden", "what the layer before the head makes of the vector, before the bend"
    # The matrix is square: the letter c stands for the channels that it makes, until the bend calls them d again.
    yield linear_node(
        f"{here}.pre", module.linear, f"{here}.linear", x, says, reads=letters, out=letters.replace("d", "c")
    )
    assert config.head_hidden is not None
    yield Node(f"{here}.out", head.hidden(config.head_hidden, letters), {"pre": point(f"{here}.pre")})


NEXT = "how much speaks for each token of the vocabulary to come next"
HEARD = "how much speaks for each token of the vocabulary to be said at this place, or for none (the blank)"


def token_head_nodes(module: Head, x: str, path: str, says: str = NEXT) -> Iterator[Node]:
    """The logits of the vocabulary: a linear map, scaled and capped where the model does so."""
    steps = [
        "linear",
        *(["scaled"] if module.scale != 1.0 else []),
        *(["capped"] if module.softcap is not None else []),
    ]
    names = {step: "head.logits" if step == steps[-1] else f"head.{step}" for step in steps}
    node = linear_node(names["linear"], module.linear, path, x, says, reads="i d", out="i n")
    biases = {"b": weight("head.linear.bias")} if module.linear.bias is not None else {}
    yield Node(node.name, node.recipe, {**node.inputs, **biases}, tapped=len(steps) == 1)
    before = names["linear"]
    if "scaled" in steps:
        is_last = names["scaled"] == "head.logits"
        recipe, constants = head.logit_scaled(names["scaled"]), {"scale": module.scale}
        yield Node(names["scaled"], recipe, {"x": point(before)}, constants, tapped=is_last)
        before = names["scaled"]
    if "capped" in steps:
        yield Node(names["capped"], head.logit_capped(), {"x": point(before)}, {"cap": float(module.softcap or 0)})


def ctc_nodes(module: CtcHead, x: str) -> Iterator[Node]:
    """What is being said at each place of the source, as scores and as probabilities."""
    derived = partial(Node, tapped=False)
    says = "how much speaks for each token of the vocabulary to be said at this place of the source, or for none (the blank)"
    yield linear_node("ctc.logits", module.linear, "ctc.linear", x, says, reads="j d", out="j n")
    logits, letters = point("ctc.logits"), "j n"
    yield derived("ctc.top", head.softmax_top(letters), {"logits": logits})
    yield derived("ctc.sum", head.softmax_sum(letters), {"logits": logits, "top": point("ctc.top")})
    inputs = {"logits": logits, "top": point("ctc.top"), "sum": point("ctc.sum")}
    yield derived("ctc.log_probability", head.log_probability(letters), inputs)
    yield derived("ctc.probability", head.probability(letters), {"log_p": point("ctc.log_probability")})


def outcome_nodes(config: ModelConfig, *, targets: bool, smoothing: float) -> Iterator[Node]:
    """Probabilities of what was scored, and the loss where the right answers are known."""
    derived = partial(Node, tapped=False)
    if config.head == "pooled":
        return
    logits = point("head.logits")
    letters = "n" if config.head == "labels" else "i n"
    if config.several_labels:
        yield derived("head.probability", head.chance(letters), {"logits": logits})
        return
    yield derived("head.top", head.softmax_top(letters), {"logits": logits})
    yield derived("head.sum", head.softmax_sum(letters), {"logits": logits, "top": point("head.top")})
    inputs = {"logits": logits, "top": point("head.top"), "sum": point("head.sum")}
    yield derived("head.log_probability", head.log_probability(letters), inputs)
    yield derived("head.probability", head.probability(letters), {"log_p": point("head.log_probability")})
    if targets and letters == "i n":
        inputs = {"log_p": point("head.log_probability"), "targets": given("targets")}
        constants = {"ε": smoothing, "N": config.vocab_size if config.head == "tokens" else len(config.labels)}
        yield derived("loss", head.loss(smoothed=smoothing > 0), inputs, constants)
