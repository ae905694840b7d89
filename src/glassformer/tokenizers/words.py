"""One id for each frequent word, and for each space and sign between words, so that known text comes back exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from glassformer.tokenizers.lookup import LookupTokenizer
from glassformer.tokenizers.patterns import compiled


class WordTokenizer(LookupTokenizer):
    """A word is a run of letters, marks and digits, with apostrophes inside (``don't``); every other character is a piece
    of its own. Ids follow frequency, the most frequent first. Words outside of the vocabulary become ``<|unk|>``.
    """

    kind = "words"
    unit = "words and signs"
    pattern = r"[\p{L}\p{M}\p{N}_]+(?:['’][\p{L}\p{M}]+)*|[^\p{L}\p{M}\p{N}_]"
    largest_default = 2**15  # beyond it the embedding outweighs every model that a laptop trains

    def split(self, text: str) -> Sequence[str]:
        return compiled(self.pattern).findall(text)

    @classmethod
    def count(cls, text: str) -> Counter[str]:
        return Counter(compiled(cls.pattern).findall(text))

    @staticmethod
    def arrange(pieces: list[str]) -> list[str]:
        return pieces
