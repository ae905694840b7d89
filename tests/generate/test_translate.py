"""Translating: how long a target may become, and what is drawn instead of searched for."""

from __future__ import annotations

import pytest

from glassformer.errors import ConfigError
from glassformer.generate import Beam, Sampling
from glassformer.generate.translate import translate
from glassformer.models import ModelConfig, build_model
from glassformer.tokenizers import train_tokenizer
from glassformer.tokenizers.roles import SEPARATOR, START

TEXTS = ["ab", "abcdefgh", "b", "hgfedcba"]
LONGEST = 60


@pytest.fixture(scope="module", params=["encoder_decoder", "decoder"])
def translator(request):
    """An untrained model, which hardly ever ends a text, and its tokenizer."""
    tokenizer = train_tokenizer("characters", ["abcdefgh"], special_tokens=(START, SEPARATOR))
    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "max_len": LONGEST, "vocab_size": tokenizer.vocab_size}
    model = build_model(ModelConfig.parse({**sizes, "shape": request.param, "init": "xavier"}), seed=3).eval()
    return model, tokenizer, tokenizer


def test_a_target_may_be_many_times_as_long_as_its_source(translator):
    (found,) = translate(*translator, ["b"], beam=Beam(num_beams=1, min_new_tokens=40))
    assert len(found.hypotheses[0].ids) >= 40


def test_a_text_that_was_cut_off_is_said(translator):
    (found,) = translate(*translator, ["ab"], beam=Beam(num_beams=1, min_new_tokens=9, max_new_tokens=9))
    assert found.notes == ("cut off after 9 tokens: 'ab'",)


def test_a_prefix_that_leaves_no_room_is_one_sentence(translator):
    with pytest.raises(ConfigError, match=r"^'ab' leaves room for \d+ tokens in the context of 60, too few for the 70"):
        translate(*translator, ["ab"], prefix="a" * 70)


def test_what_is_drawn_depends_on_the_seed_alone_and_not_on_the_neighbours(translator):
    settings = {"beam": Beam(num_beams=3, n_best=2), "sampling": Sampling(temperature=1.5)}
    together = translate(*translator, TEXTS, seed=5, **settings)
    for text, found in zip(TEXTS, together, strict=True):
        (alone,) = translate(*translator, [text], seed=5, **settings)
        assert alone.texts == found.texts
        assert len(found.texts) == 2
        assert found.hypotheses[0].score >= found.hypotheses[1].score
    assert [one.texts for one in translate(*translator, TEXTS, seed=6, **settings)] != [one.texts for one in together]
