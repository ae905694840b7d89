"""The encoder-only model: every token sees the whole text, and a head says what is asked of it."""

# B batch, T tokens, K tokens asked for, D model, V vocabulary, L labels

from __future__ import annotations

from torch import Tensor, nn

from glassformer.models.config import ModelConfig
from glassformer.models.heads import READING_HEADS, Head
from glassformer.models.stack import Stack
from glassformer.models.vectors import subsampled


class Encoder(nn.Module):
    """Devlin et al. (2019): fills in masked tokens, or, with another head, labels, tags or embeds a text."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Stack(config, causal=False)
        if config.head == "tokens":
            self.head: nn.Module = Head(config, getattr(self.encoder.embedding, "token", None))
        else:
            self.head = READING_HEADS[config.head](config)
        self.kept: dict[str, Tensor] = {}  # tensors of the file it came from that nothing here reads, to be saved again

    def forward(
        self,
        ids: Tensor,
        *,
        at: Tensor | None = None,
        documents: Tensor | None = None,
        kinds: Tensor | None = None,
        asked: Tensor | None = None,
    ) -> Tensor:
        """What the head says of ids (B T), or of vectors (B S F) of which convolutions leave T: scores of every token (B T V),
        of the labels (B L), of each token's labels (B T L), or one vector of length 1 (B D).

        at: B T, or B S, each token's position from 0, -1 where there is padding. kinds: B T, which text of a pair each token
        belongs to, 0 where nobody says. asked: B K, the columns whose tokens are to be scored, where not all are (B K V).
        """
        x = self.encoder(ids, at=at, documents=documents, kinds=kinds)
        if asked is not None:  # the vocabulary is wide, and few tokens are asked for
            x = x.gather(1, asked[..., None].expand(-1, -1, x.shape[-1]))
        if at is not None and self.config.vectors is not None:
            at = subsampled(at, self.config.vectors.strides)
        return self.head(x) if self.config.head == "tokens" else self.head(x, at)
