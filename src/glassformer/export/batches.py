"""Random inputs on which two ways to run a model are held against each other: single tokens, long texts, ragged batches."""

# B batch, T tokens, S source tokens

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glassformer.models import Model, ModelConfig
from glassformer.models.encoder_decoder import EncoderDecoder
from glassformer.models.vectors import subsampled

LONGEST = 24  # tokens of a random text, where no window asks for more
MOST = 96  # tokens beyond which a window is not followed
# Rows, how long the longest of them is in shares of the whole, and on which side the others are padded.
BATCHES = ((1, 0.0, "right"), (1, 1.0, "right"), (3, 0.4, "right"), (4, 1.0, "right"), (3, 0.7, "left"))


@dataclass(frozen=True)
class Batch:
    """Texts as ids (B T) with the position of each token (B T, -1 for padding), and sources (B S) where the model reads them.

    What an encoder of vectors reads are these instead of ids (B T F, or B S F). `places`: the positions that an answer is
    about, where convolutions leave fewer than were read.
    """

    ids: Tensor
    at: Tensor
    source: Tensor | None = None
    source_at: Tensor | None = None
    places: Tensor | None = None

    @property
    def is_left(self) -> bool:
        """Whether any row has its padding before its text."""
        return bool((self.at[:, 0] < 0).any())

    def longer_by(self, column: Tensor) -> Batch:
        """The same texts, none of them padded, with one more token each (B)."""
        ids = torch.cat((self.ids, column[:, None]), dim=1)
        return replace(self, ids=ids, at=torch.arange(ids.shape[1]).expand_as(ids))


def random_batches(config: ModelConfig, seed: int = 0, avoid: Collection[int] = ()) -> list[Batch]:
    """The batches of BATCHES, none longer than the model reads. No id of `avoid` is drawn, such as that of padding."""
    draw = torch.Generator().manual_seed(seed)
    ids = allowed_ids(config.vocab_size, avoid)
    made = []
    for rows, share, side in BATCHES:
        hears = config.vectors is not None and config.shape == "encoder"
        at = random_places(rows, 1 + round(share * (longest(config) - 1)), "right" if hears else side, draw)
        batch = Batch(drawn(ids, at, draw), at) if not hears else heard(config, at, draw)
        if config.shape == "encoder_decoder":
            source = config.source_side()
            source_at = random_places(rows, 1 + round((1 - share / 2) * (longest(source) - 1)), "right", draw)
            known = allowed_ids(source.vocab_size, avoid)
            read = drawn(known, source_at, draw) if config.vectors is None else heard(config, source_at, draw).ids
            batch = replace(batch, source=read, source_at=source_at)
        made.append(batch)
    return made


def random_prompts(config: ModelConfig, n_new: int, seed: int = 1, avoid: Collection[int] = ()) -> Batch:
    """Three beginnings of texts, unpadded, that leave room for `n_new` tokens, each with a source where there are sources."""
    draw = torch.Generator().manual_seed(seed)
    at = torch.arange(max(1, min(4, config.max_len - n_new))).expand(3, -1)
    batch = Batch(drawn(allowed_ids(config.vocab_size, avoid), at, draw), at)
    if config.shape != "encoder_decoder":
        return batch
    source = config.source_side()
    source_at = random_places(3, longest(source), "right", draw)
    known = allowed_ids(source.vocab_size, avoid)
    read = drawn(known, source_at, draw) if config.vectors is None else heard(config, source_at, draw).ids
    return replace(batch, source=read, source_at=source_at)


def heard(config: ModelConfig, at: Tensor, draw: torch.Generator) -> Batch:
    """Random vectors for these places."""
    assert config.vectors is not None
    vectors = torch.randn(*at.shape, config.vectors.size, generator=draw)
    return Batch(vectors, at, places=subsampled(at, config.vectors.strides))


def longest(config: ModelConfig) -> int:
    """The length of the longest random text: beyond the window, where there is one that is not too wide."""
    beyond = 2 * config.window if config.window is not None else 0
    return min(config.max_len, max(LONGEST, beyond if beyond <= MOST else 0))


def random_places(rows: int, width: int, side: str, draw: torch.Generator) -> Tensor:
    """Positions of texts of random lengths, of which the first is as long as the batch is wide. B T."""
    at = torch.full((rows, width), -1)
    for row in range(rows):
        length = width if row == 0 else int(torch.randint(1, width + 1, (), generator=draw))
        start = width - length if side == "left" else 0
        at[row, start : start + length] = torch.arange(length)
    return at


def allowed_ids(vocab_size: int, avoid: Collection[int]) -> Tensor:
    """All ids but those to avoid; all where none would be left."""
    return torch.tensor([id for id in range(vocab_size) if id not in avoid] or list(range(vocab_size)))


def drawn(ids: Tensor, at: Tensor, draw: torch.Generator) -> Tensor:
    """Random ids for every token, 0 for padding."""
    return ids[torch.randint(len(ids), at.shape, generator=draw)].masked_fill(at < 0, 0)


def answer(model: Model, batch: Batch) -> Tensor:
    """What a model says of a batch. Any device; the answer is on the CPU."""
    device = next(model.parameters()).device
    weight = next(model.parameters())
    ids, at = (x.to(weight) if x.is_floating_point() else x.to(device) for x in (batch.ids, batch.at))
    with torch.no_grad():
        if isinstance(model, EncoderDecoder):
            assert batch.source is not None
            assert batch.source_at is not None
            source = batch.source.to(weight) if batch.source.is_floating_point() else batch.source.to(device)
            return model(ids, at=at, source=source, source_at=batch.source_at.to(device)).cpu()
        return model(ids, at=at).cpu()


def real(answers: Tensor, batch: Batch) -> Tensor:
    """The answers without those to padding: N V of tokens, B L of texts."""
    return answers[(batch.at if batch.places is None else batch.places) >= 0] if answers.dim() == 3 else answers


def numbers_in(batches: Sequence[Batch]) -> int:
    """How many tokens, padding left out."""
    return sum(int((batch.at >= 0).sum()) for batch in batches)
