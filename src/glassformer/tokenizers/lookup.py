"""What character and word tokenizers share: text is cut by a rule, and each piece is looked up in a fixed vocabulary."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from glassformer.errors import TokenizerError
from glassformer.tokenizers import schema
from glassformer.tokenizers.base import Token, Tokenizer, refuse_lone_surrogates
from glassformer.tokenizers.schema import UNK, SpecialTokens, TokenizerFile


class LookupTokenizer(Tokenizer):
    """Pieces outside of the vocabulary become ``<|unk|>``; every other text comes back from its ids unchanged."""

    pattern: ClassVar[str]  # matches one piece; every character of any text lies in some match
    unit: ClassVar[str]  # what a piece is called in messages
    largest_default: ClassVar[int | None] = None

    def __init__(self, vocab: Mapping[str, int], special: SpecialTokens) -> None:
        super().__init__({piece.encode(): id for piece, id in vocab.items()}, special)
        if special.unk is None:
            raise TokenizerError(f"a tokenizer of {self.kind} needs a token for what is unknown, such as {UNK}")
        self.vocab = dict(vocab)
        self.unknown: int = special.ids[special.unk]

    @abstractmethod
    def split(self, text: str) -> Sequence[str]:
        """The pieces of text; joined, they are the text."""

    @classmethod
    @abstractmethod
    def count(cls, text: str) -> Counter[str]:
        """How often each piece occurs in text."""

    @staticmethod
    @abstractmethod
    def arrange(pieces: list[str]) -> list[str]:
        """The order of ids for the chosen pieces, which come most frequent first."""

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocab_size: int | None = None,
        special_tokens: Sequence[str] = (),
        pattern: str = "gpt2",
    ) -> Self:
        """The most frequent pieces (equally frequent ones in code-point order), up to `vocab_size` with special tokens."""
        counts: Counter[str] = Counter()
        for text in texts:
            refuse_lone_surrogates(text)
            counts.update(cls.count(text))
        if not counts:
            raise TokenizerError("there is no text to learn from: every document is empty")
        n_special = len(SpecialTokens.after(0, special_tokens, unk=True).ids)
        reachable = len(counts) + n_special
        if vocab_size is None:
            vocab_size = min(reachable, cls.largest_default or reachable)
        elif not n_special < vocab_size <= reachable:
            raise TokenizerError(
                f"vocab_size={vocab_size} cannot be had: the text has {len(counts)} different {cls.unit}, so with "
                f"{n_special} special tokens it can be {n_special + 1} to {reachable}; leave it out to have it chosen"
            )
        frequent = sorted(counts, key=lambda piece: (-counts[piece], piece))[: vocab_size - n_special]
        vocab = {piece: id for id, piece in enumerate(cls.arrange(frequent))}
        return cls(vocab, SpecialTokens.after(len(vocab), special_tokens, unk=True))

    @classmethod
    def from_schema(cls, file: TokenizerFile) -> Self | None:
        cut = file.pre_tokenizer
        if file.model.get("type") != "WordLevel" or cut != schema.split(cls.pattern):
            return None
        return cls(file.vocab, file.special)

    def to_schema(self) -> dict[str, Any]:
        # The vocabulary names the special tokens too: `tokenizers` looks its unknown token up there.
        vocab = {**self.vocab, **self.special_tokens}
        return {
            "pre_tokenizer": schema.split(self.pattern),
            "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": self.special.unk},
        }

    def encode_text(self, text: str) -> list[int]:
        get, unknown = self.vocab.get, self.unknown
        return [get(piece, unknown) for piece in self.split(text)]

    def tokens_of_text(self, text: str, start: int) -> list[Token]:
        found: list[Token] = []
        for piece in self.split(text):
            raw = piece.encode()
            found.append(Token(self.vocab.get(piece, self.unknown), raw, start, start + len(raw)))
            start += len(raw)
        return found
