"""Embeddings that are learned: a vector for each word, found by predicting the word that follows it."""

# N vocabulary, D width of the embedding

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.lessons.models.vocabulary import Vocabulary, split
from glassformer.models import Decoder, ModelConfig, build_model


class WordMap:
    """A decoder without layers: embedding, de-embedding and nothing between them."""

    def __init__(self, d_model: int = 2, seed: int = 0, steps: int = 300) -> None:
        self.d_model, self.seed, self.steps = d_model, seed, steps
        self.vocabulary = Vocabulary()
        self.model: Decoder | None = None
        self.losses: list[float] = []

    def fit(self, sentences: Mapping[str, float]) -> WordMap:
        """Find the vectors from sentences and how often each is said."""
        vocabulary = self.vocabulary.fit(sentences)
        counts = torch.zeros(len(vocabulary), len(vocabulary), dtype=torch.float64)
        for sentence, times in sentences.items():
            places = [vocabulary.index(word) for word in split(sentence)]
            for before, after in pairwise(places):
                counts[before, after] += times
        self.model = model = words_alone(len(vocabulary), self.d_model, self.seed)
        with torch.no_grad():  # from near the middle words go where they are sent, not where they happened to be
            model.decoder.embedding.weight.mul_(0.1)
        every_word = torch.arange(len(vocabulary))[:, None]
        optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(self.steps):
            log_p = model(every_word)[:, 0].double().log_softmax(-1)
            loss = -(counts * log_p).sum() / counts.sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            self.losses.append(loss.item())
        model.requires_grad_(False)
        return self

    def predict(self, word: str) -> Tensor:
        """The chance of each word to come next, N."""
        assert self.model is not None, "fit comes first"
        return self.model(torch.tensor([[self.vocabulary.index(word)]]))[0, 0].double().softmax(-1)

    @property
    def vectors(self) -> Tensor:
        """The embedding of each word, N D."""
        assert self.model is not None, "fit comes first"
        return self.model.decoder.embedding.weight

    def alike(self) -> Tensor:
        """The cosine of the angle between each two words, N N."""
        unit = F.normalize(self.vectors, dim=-1)
        return unit @ unit.T


def words_alone(n_words: int, d_model: int, seed: int = 0, bias: bool = False) -> Decoder:
    """A decoder without layers, in float64: what it says after a word depends on that word's vector alone."""
    config = ModelConfig(
        vocab_size=n_words,
        d_model=d_model,
        n_heads=1,
        d_head=2,
        n_layers=0,
        norm_place="post",
        positions="none",
        head_bias=bias,
        max_len=8,
    )
    model = build_model(config, seed).double()
    assert isinstance(model, Decoder)
    return model
