"""Checks of the whole run: facts that hold for every cell at once, and for the ways in which the model can be run."""

# T tokens, D model, N vocabulary

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from glassformer.lens.parts import Check
from glassformer.lens.scene import Scene, exact, rounding

DEPTH = 50  # whole runs round at every step: two of them may differ so many times more than a single sum


def run_checks(scene: Scene) -> list[Check]:
    """All of them."""
    return [
        watched_equals_plain(scene),
        cached_equals_recomputed(scene),
        softmax_rows(scene),
        residual_sums(scene),
    ]


def watched_equals_plain(scene: Scene) -> Check:
    """The readable steps that were recorded, against the fused kernels with which the model runs."""
    return distance(
        "logits, watched step by step against the model's usual path",
        exact(scene.taps["head.logits"][0]),
        exact(scene.plain),
        scene.model,
    )


def cached_equals_recomputed(scene: Scene) -> Check:
    """The last token alone, read after a cache of the others, against all tokens read at once."""
    model, ids = scene.model, torch.tensor([scene.ids], device=scene.plain.device)
    cache = model.new_cache(1, len(scene.ids))
    if len(scene.ids) > 1:
        model(ids[:, :-1], cache=cache)
    last = model(ids[:, -1:], cache=cache)[0, -1]
    return distance(
        "logits of the last token, from a cache against recomputed", exact(last), exact(scene.plain[-1]), model
    )


def distance(label: str, ours: Tensor, theirs: Tensor, model: nn.Module) -> Check:
    """The largest difference between two runs, allowed to grow with the largest number in them."""
    return Check(label, largest(ours - theirs), DEPTH * rounding(model) * max(1.0, largest(theirs)))


def softmax_rows(scene: Scene) -> Check:
    """Every token's weights, in every head, sum to one."""
    sums = exact(scene.taps[scene.here("attention.pattern")]).sum(-1)
    return Check(
        f"attention weights of layer {scene.layer} sum to 1, {sums.numel():,} rows", largest(sums - 1), scene.rounding
    )


def residual_sums(scene: Scene) -> Check:
    """What enters each layer and what its sublayers add make what leaves it, for every layer and token."""
    model = scene.model
    differences, sizes = [0.0], [1.0]
    for layer in range(scene.config.n_layers):
        x = {
            point: exact(scene.taps[f"decoder.blocks.{layer}.{point}"][0])
            for point in ("resid_pre", "attention.out", "resid_mid", "mlp.out", "resid_post")
        }
        block = model.decoder.blocks[layer]
        for before, added, after, norm in (
            ("resid_pre", "attention.out", "resid_mid", "attention_norm"),
            ("resid_mid", "mlp.out", "resid_post", "mlp_norm"),
        ):
            total = x[before] + x[added]
            if scene.config.norm_place == "post":
                total = copy.deepcopy(getattr(block, norm)).cpu().double()(total)
            differences.append(largest(total - x[after]))
            sizes.append(largest(total))
    return Check(f"residual sums of {scene.config.n_layers} layers", max(differences), scene.rounding * max(sizes))


def largest(x: Tensor) -> float:
    """The largest absolute value."""
    return float(x.abs().max())
