"""Text from ids that arrive one by one, without ever showing half of a character."""

from __future__ import annotations

import codecs

from glassformer.tokenizers.base import Tokenizer


class StreamDecoder:
    """What `push` and then `finish` return, joined, is `tokenizer.decode` of all the ids."""

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = False) -> None:
        self.tokenizer = tokenizer
        self.skip_special = skip_special
        self.utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, id: int) -> str:
        """The text that is certain now; empty while a character is incomplete."""
        return self.utf8.decode(self.tokenizer.decode_bytes([id], self.skip_special))

    def finish(self) -> str:
        """U+FFFD if the ids ended inside of a character, otherwise nothing. The decoder can then be used again."""
        rest = self.utf8.decode(b"", final=True)
        self.utf8.reset()
        return rest
