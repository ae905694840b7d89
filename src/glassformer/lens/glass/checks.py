"""Facts that a whole run must obey: its sums, its shares, and the other ways in which the model can be run."""

# T tokens, D model, N vocabulary

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from glassformer.generate.loop import evaluating
from glassformer.lens.glass.draws import draw_checks
from glassformer.lens.glass.heard import hearing_checks
from glassformer.lens.glass.searches import tree_checks
from glassformer.lens.glass.trace import Trace
from glassformer.lens.graph.stacks import added_by
from glassformer.lens.numbers import DEPTH, exact, rounding
from glassformer.lens.parts import Check
from glassformer.lens.recording import answer, answer_of_ctc, arguments, read_by, stack_given, stack_of
from glassformer.models import Decoder, EncoderDecoder
from glassformer.models.stack import Stack
from glassformer.nn.block import Block

STEPS = 8  # tokens that are read one by one from the cache; those before them at once


def run_checks(trace: Trace, *, everywhere: bool = True) -> list[Check]:
    """All that apply; those that look into every block only where they are wanted."""
    inside = (*attention_checks(trace), *residual_sums(trace)) if everywhere else ()
    return [
        *ways_of_running(trace),
        *inside,
        *given_checks(trace),
        *hearing_checks(trace),
        *draw_checks(trace, whole_run(trace)),
        *tree_checks(trace, whole_run(trace)),
    ]


def ways_of_running(trace: Trace) -> Iterator[Check]:
    """The readable steps that were recorded against the fused kernels, and, where there is one, the cache."""
    recorded = exact(trace.replay.points["head.out" if trace.model.config.head == "pooled" else "head.logits"])
    now = exact(answer(trace.model, trace.replay.given))
    differs = max(largest(recorded - now), largest(exact(trace.plain) - now))
    yield Check("readable steps against the fused path", differs, whole_run(trace))
    if "ctc.logits" in trace.replay.points:
        differs = largest(
            exact(trace.replay.points["ctc.logits"]) - exact(answer_of_ctc(trace.model, trace.replay.given))
        )
        yield Check("CTC: readable steps against the fused path", differs, whole_run(trace))
    if isinstance(trace.model, Decoder | EncoderDecoder) and can_be_remembered(trace):
        columns = from_cache(trace, trace.model)
        yield Check(
            f"last {columns.shape[1]} tokens from a cache against recomputed",
            largest(exact(columns) - now[:, -columns.shape[1] :]),
            whole_run(trace),
        )


def can_be_remembered(trace: Trace) -> bool:
    """Whether a cache can hold the text: not packed documents, nor more than dynamic rotary scaling leaves alone."""
    fixed, given = trace.model.config.fixed_len, trace.replay.given
    return "decoder.documents" not in given and (fixed is None or given["decoder.ids"].shape[1] <= fixed)


@torch.inference_mode()
def from_cache(trace: Trace, model: Decoder | EncoderDecoder) -> Tensor:
    """The answers about the last tokens, each read alone after a cache of those before it. 1 STEPS N."""
    ids, extra = arguments(model, trace.replay.given)
    first = {name: extra[name] for name in ("source", "source_at", "prefix") if name in extra}
    start = max(ids.shape[1] - STEPS, 1)
    with evaluating(model):
        cache = model.new_cache(1, ids.shape[1])
        parts = [model(ids[:, :start], cache=cache, **first)[:, -1:]]
        parts += [model(ids[:, column : column + 1], cache=cache) for column in range(start, ids.shape[1])]
    return torch.cat(parts, dim=1)


def attention_checks(trace: Trace) -> Iterator[Check]:
    """Every token's shares in every head sum to 1, and none goes to a token that a rule hides."""
    rows, off, leaked = 0, 0.0, 0.0
    for name in trace.replay.points:
        if name.endswith("attention.pattern"):
            pattern = exact(trace.replay.points[name])
            hidden = trace.replay.points[name.replace(".pattern", ".mask_rule")].ne(0).cpu()
            sums, blind = pattern.sum(-1), hidden.all(-1).expand(pattern.shape[:-1])
            rows += sums.numel()
            off = max(off, largest(torch.where(blind, sums, sums - 1)))
            leaked = max(leaked, largest(pattern.masked_fill(~hidden, 0.0)))
    if rows:
        yield Check(f"shares of attention sum to 1, {rows:,} rows", off, rounding(trace.model))
        yield Check("no share goes to a hidden token", leaked, 0.0)


def residual_sums(trace: Trace) -> Iterator[Check]:
    """What enters a stack and all that its sublayers add make what leaves its last block."""
    for name in trace.tokens:
        stack = getattr(trace.model, name)
        if not isinstance(stack, Stack) or not len(stack.blocks):
            continue
        yield nearest_to_failing(f"residual sums of the {len(stack.blocks)} blocks of the {name}", sums_of(trace, name))


def sums_of(trace: Trace, name: str) -> Iterator[tuple[Tensor, Tensor]]:
    """The difference and what rounding explains of it, for each block."""
    stack = getattr(trace.model, name)
    x = trace[f"{name}.embedding.out"]
    size, unit = x.abs(), rounding(trace.model)
    for layer, block in enumerate(stack.blocks):
        assert isinstance(block, Block)
        here = f"{name}.blocks.{layer}"
        for sublayer in ("attention", "cross_attention", "mlp"):
            if getattr(block, sublayer) is None:
                continue
            added = trace[added_by(f"{here}.{sublayer}", stack.config)]
            x, size = x + added, size + added.abs()
            if stack.config.norm_place == "post":
                norm = f"{here}.{sublayer}_norm"
                after = trace[f"{norm}.out"]
                x = copy.deepcopy(block.get_submodule(f"{sublayer}_norm")).cpu().double().requires_grad_(False)(x)
                yield x - after, unit * trace.replay.size(trace.replay.node(f"{norm}.out"), x)
                x, size = after, after.abs()
        yield x - trace[f"{here}.resid_post"], unit * size
        x = trace[f"{here}.resid_post"] if stack.config.norm_place == "post" else x


def given_checks(trace: Trace) -> Iterator[Check]:
    """The ids are those of the tokens that are shown; what follows from ids does."""
    given, wrong = trace.replay.given, 0
    for name, tokens in trace.tokens.items():
        ids = read_by(name, given)
        if f"{name}.ids" in given:
            wrong += int(tuple(ids[0].tolist()) != tokens.ids)
        else:
            wrong += int(given[f"{name}.at"].shape[1] != len(tokens))
        follows = stack_given(name, getattr(trace.model, name), ids, None, given.get(f"{name}.documents"))
        wrong += sum(not torch.equal(given[part].cpu(), value.cpu()) for part, value in follows.items())
    if "targets" in given and stack_of(trace.model) == "decoder":  # which answers with the token that comes next
        answering = given[f"{stack_of(trace.model)}.ids"]
        known = given["targets"][:, :-1].cpu()
        wrong += int((known.ne(answering[:, 1:].cpu()) & known.ge(0)).sum())
    words = "ids" if all(f"{name}.ids" in given for name in trace.tokens) else "ids, vectors"
    yield Check(f"{words}, positions and targets are those of the tokens", float(wrong), 0.0)


def nearest_to_failing(label: str, found: Iterator[tuple[Tensor, Tensor]]) -> Check:
    """One check of many cells: the difference and the tolerance of the one that comes nearest to failing."""
    worst, share = Check(label, 0.0, 0.0), -1.0
    for difference, tolerance in found:
        size = difference.abs().nan_to_num(nan=torch.inf)
        shares = torch.where(size == 0, 0.0, size / tolerance)
        place = int(shares.argmax())
        if float(shares.flatten()[place]) > share:
            share = float(shares.flatten()[place])
            worst = Check(label, float(size.flatten()[place]), float(tolerance.expand_as(size).flatten()[place]))
    return worst


def whole_run(trace: Trace) -> float:
    """How far two runs of one model may differ in what they answer."""
    return DEPTH * rounding(trace.model) * max(1.0, largest(exact(trace.plain)))


def largest(x: Tensor) -> float:
    """The largest absolute value, infinite where there is one that is no number."""
    return float(x.abs().nan_to_num(nan=torch.inf, posinf=torch.inf).max()) if x.numel() else 0.0
