"""One id for each character that the training text has: the smallest vocabulary, the longest sequences."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glassformer.tokenizers.lookup import LookupTokenizer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class CharacterTokenizer(LookupTokenizer):
    """Characters are Unicode code points; ids follow code-point order. Unseen characters become ``<|unk|>``."""

    kind = "characters"
    unit = "characters"
    pattern = r"[\s\S]"  # any character, line ends too, in every dialect of regular expressions

    def split(self, text: str) -> Sequence[str]:
        return text

    @classmethod
    def count(cls, text: str) -> Counter[str]:
        return Counter(text)

    @staticmethod
    def arrange(pieces: list[str]) -> list[str]:
        return sorted(pieces)

    def encode_array(self, text: str) -> npt.NDArray[np.unsignedinteger[Any]]:
        import numpy as np

        self.check_text(text, "text")
        return self.id_of_code_point[np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)]

    @functools.cached_property
    def id_of_code_point(self) -> npt.NDArray[np.unsignedinteger[Any]]:
        import numpy as np

        table = np.full(0x110000, self.unknown, dtype=self.dtype)
        for character, id in self.vocab.items():
            table[ord(character)] = id
        return table
