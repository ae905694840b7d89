"""Beam search finds the texts, in the order, that `transformers` finds with the same settings."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from glassformer.generate import Beam, beam_search

transformers = pytest.importorskip("transformers")


class Peer:
    """A model of `transformers`, read without a cache."""

    training = False
    config: Any = SimpleNamespace(vocab_size=23, max_len=64)

    def __init__(self) -> None:
        fields = {"n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
        config = transformers.GPT2Config(vocab_size=23, bos_token_id=1, eos_token_id=0, pad_token_id=0, **fields)
        self.model = transformers.GPT2LMHeadModel(config).eval()
        draw = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in self.model.parameters():
                weight.normal_(std=0.6, generator=draw)

    def __call__(self, ids: torch.Tensor, *, at: torch.Tensor | None = None, cache: Any = None) -> torch.Tensor:
        return self.model(ids).logits

    def new_cache(self, batch: int, max_len: int | None = None) -> Any:
        raise AssertionError

    def parameters(self) -> Iterator[torch.Tensor]:
        return self.model.parameters()

    def train(self, mode: bool = True) -> None: ...


@pytest.fixture(scope="module")
def peer() -> Peer:
    return Peer()


@pytest.mark.parametrize(("ours", "theirs"), [("exact", "never"), ("first", True)])
@pytest.mark.parametrize("rules", [{}, {"no_repeat_ngram_size": 2, "min_new_tokens": 5}], ids=["free", "ruled"])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0, -1.0])
@torch.no_grad()
def test_the_same_texts_and_scores(peer: Peer, penalty, rules, ours, theirs):
    shared = {"num_beams": 4, "length_penalty": penalty, "max_new_tokens": 12, **rules}
    prompt = [3, 4, 5]
    beam = Beam(n_best=3, early_stopping=ours, **shared)
    (result,) = beam_search(peer, [prompt], beam, eos_id=0, use_cache=False)
    found = peer.model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        num_return_sequences=3,
        early_stopping=theirs,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **shared,
    )
    for hypothesis, sequence, score in zip(result.hypotheses, found.sequences, found.sequences_scores, strict=True):
        new = sequence[len(prompt) :].tolist()
        assert list(hypothesis.ids) == new[: len(hypothesis.ids)]
        assert not any(new[len(hypothesis.ids) :])
        assert hypothesis.score == pytest.approx(float(score), abs=1e-4)
