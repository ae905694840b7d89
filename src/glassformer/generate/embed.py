"""Texts as vectors: the nearer in meaning, the nearer in direction."""

# N texts, D model

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glassformer.generate.purpose import refuse_unfit
from glassformer.generate.reading import answers, refuse_unreadable, with_end
from glassformer.tokenizers import Tokenizer


@torch.inference_mode()
def embed(model: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.float32]:
    """The vector of each text, of length 1, [N, D]: the product of two is the cosine of their angle.

    Raises ConfigError as `rows_to_embed` does.
    """
    rows = rows_to_embed(model, tokenizer, texts)
    vectors = np.empty((len(texts), model.config.d_model), np.float32)
    for number, vector in answers(model, rows):
        vectors[number] = vector.cpu().numpy()
    return vectors


def rows_to_embed(model: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text. Raises ConfigError for a model that was not made for it, a text that is empty or too long."""
    refuse_unfit(model, tokenizer, "embed")
    rows = with_end(tokenizer, texts)
    refuse_unreadable(texts, rows, model.config.max_len)
    return rows
