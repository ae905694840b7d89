"""One id for each of the 256 bytes: nothing to learn, nothing unknown, and id 65 is the letter A."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from glassformer.errors import TokenizerError
from glassformer.tokenizers import schema
from glassformer.tokenizers.base import Token, Tokenizer
from glassformer.tokenizers.schema import SpecialTokens, TokenizerFile, spell

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BYTES = [bytes([byte]) for byte in range(256)]


class ByteTokenizer(Tokenizer):
    """The ids of a text are its UTF-8 bytes; special tokens follow from 256."""

    kind = "bytes"

    def __init__(self, special: SpecialTokens) -> None:
        super().__init__({piece: byte for byte, piece in enumerate(BYTES)}, special)

    @classmethod
    def train(
        cls,
        texts: Iterable[str] = (),
        *,
        vocab_size: int | None = None,
        special_tokens: Sequence[str] = (),
        pattern: str = "gpt2",
    ) -> Self:
        """Nothing is learned, so `texts` is not read."""
        special = SpecialTokens.after(256, special_tokens)
        only = 256 + len(special.ids)
        if vocab_size not in (None, only):
            raise TokenizerError(
                f"vocab_size={vocab_size} cannot be had: 256 bytes and {len(special.ids)} special tokens are {only}; "
                "leave it out, or choose 'bpe' for a vocabulary of any size"
            )
        return cls(special)

    @classmethod
    def from_schema(cls, file: TokenizerFile) -> Self | None:
        whole = file.model.get("type") == "BPE" and file.pre_tokenizer == schema.byte_level(use_regex=False)
        if not whole or file.vocab != {spell(piece): byte for byte, piece in enumerate(BYTES)}:
            return None
        return cls(file.special)

    def to_schema(self) -> dict[str, Any]:
        vocab = {spell(piece): byte for byte, piece in enumerate(BYTES)} | self.special_tokens
        return {
            "pre_tokenizer": schema.byte_level(use_regex=False),
            "decoder": schema.byte_level(use_regex=False),
            "model": {"type": "BPE", "vocab": vocab, "merges": list[str]()},
        }

    def encode_text(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_array(self, text: str) -> npt.NDArray[np.unsignedinteger[Any]]:
        import numpy as np

        self.check_text(text, "text")
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(self.dtype)

    def tokens_of_text(self, text: str, start: int) -> list[Token]:
        return [Token(byte, BYTES[byte], at, at + 1) for at, byte in enumerate(text.encode(), start)]
