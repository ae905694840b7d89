"""Laws of transcribing: joint scores against all texts, each source as alone, a beam of one is greedy, times of words."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.errors import ConfigError, GlassformerError
from glassformer.generate import Beam, Sampling, generate_ids, transcribe
from glassformer.generate.context import Window
from glassformer.generate.ctc import collapse
from glassformer.generate.joint import JointScorer
from glassformer.generate.timestamps import looked_at, running_median, spellings, warp
from glassformer.generate.transcribe import METHODS
from glassformer.generate.vectors import n_frames_of
from glassformer.models import Encoder, EncoderDecoder, ModelConfig, build_model
from glassformer.tokenizers import Tokenizer, train_tokenizer
from glassformer.tokenizers.roles import START

BLANK, EOS, PROMPT = 0, 3, 9
WORDS = "ten nine one on net"


def frames(n_frames: int, vocab_size: int, seed: int) -> np.ndarray:
    numbers = np.random.default_rng(seed).normal(0, 2, (n_frames, vocab_size))
    return torch.from_numpy(numbers).log_softmax(-1).numpy()


@functools.cache
def tokenizer() -> Tokenizer:
    return train_tokenizer("characters", [WORDS], special_tokens=[START])


@functools.cache
def both(**changes) -> EncoderDecoder:
    values = {
        "shape": "encoder_decoder",
        "vectors": {"size": 3, "strides": [2, 2]},
        "ctc_blank": tokenizer().pad_id,
        "vocab_size": tokenizer().vocab_size,
        "max_len": 24,
        "d_model": 8,
        "n_layers": 2,
        "n_heads": 2,
        **changes,
    }
    return loudly(ModelConfig.parse(values))


@functools.cache
def ctc_only() -> Encoder:
    values = {
        "shape": "encoder",
        "vectors": {"size": 3, "strides": [2]},
        "ctc_blank": tokenizer().pad_id,
        "vocab_size": tokenizer().vocab_size,
        "max_len": 24,
        "d_model": 8,
        "n_layers": 1,
        "n_heads": 2,
    }
    return loudly(ModelConfig.parse(values))


def loudly(config: ModelConfig):
    """A model with larger weights than new ones have, so that what it answers depends on what it hears."""
    model, drawn = build_model(config, seed=7), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "o_proj" in name or "down" in name:  # begun at nothing
                weight.normal_(generator=drawn)
            if name.startswith(("head.", "ctc.")):
                weight.mul_(4.0)
    return model.eval()


def sources(*lengths: int, seed: int = 0) -> list[torch.Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    return [torch.randn(length, 3, generator=drawn) for length in lengths]


# --- joint scores -----------------------------------------------------------------------------------------------------


def texts_of(log_p: np.ndarray) -> dict[tuple[int, ...], float]:
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_p.shape[1]), repeat=len(log_p)):
        text = tuple(collapse(path, BLANK))
        found[text] = found.get(text, 0.0) + math.exp(sum(log_p[t, token] for t, token in enumerate(path)))
    return found


@given(st.integers(1, 5), st.integers(0, 10_000), st.lists(st.integers(1, 2), max_size=3))
def test_the_score_of_a_beginning_is_that_of_all_texts_that_begin_so(n_frames, seed, text):
    """What CTC adds for a token, summed along a text, is log of the probability of all texts beginning with it, over eos that
    of the text itself; each against the sum over all paths."""
    log_p = frames(n_frames, 4, seed)
    all_texts = texts_of(log_p)
    scorer = JointScorer([log_p], blank=BLANK, eos_id=EOS, weight=1.0)
    total = 0.0
    for length in range(len(text) + 1):
        added = scorer(torch.zeros(1, 4), [Window([PROMPT, *text[:length]], source=0)])[0]
        for token in (1, 2, EOS):
            begun = (*text[:length], token)
            wanted = (
                all_texts.get(begun[:-1], 0.0)
                if token == EOS
                else sum(p for one, p in all_texts.items() if one[: len(begun)] == begun)
            )
            assert math.exp(total + added[token].item()) == pytest.approx(wanted, rel=1e-6, abs=1e-12)
        assert added[BLANK] == -math.inf
        if length < len(text):
            total += added[text[length]].item()
            if total < -100:  # such a text has too few frames, and what follows it is not asked for
                return


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_what_begins_with_a_text_that_has_too_few_frames_is_impossible_too(weight):
    scorer = JointScorer([frames(2, 4, 0)], blank=BLANK, eos_id=EOS, weight=weight)
    for text in ([], [1], [1, 1], [1, 1, 2]):  # between equal tokens a blank must be
        added = scorer(torch.zeros(1, 4), [Window([PROMPT, *text], source=0)])
        assert not added.isnan().any()
    assert added.eq(-math.inf).all()


def test_a_search_among_texts_that_have_too_few_frames_finds_the_others():
    (found,) = transcribe(
        both(), tokenizer(), sources(4), beam=Beam(num_beams=30, n_best=30, max_new_tokens=5), ctc_weight=0.3
    )
    assert not any(math.isnan(one.log_probability) for one in found.hypotheses)
    assert found.hypotheses[0].log_probability > -math.inf


def test_a_joint_score_without_ctc_is_that_of_attention():
    said = torch.from_numpy(frames(1, 4, 1))
    scorer = JointScorer([frames(3, 4, 0)], blank=BLANK, eos_id=EOS, weight=0.0)
    assert torch.equal(scorer(said, [Window([PROMPT], source=0)]), said)


@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_both_have_their_share(seed, weight):
    log_p, said = frames(6, 5, seed), torch.from_numpy(frames(1, 5, seed + 1))
    ctc, mixed = (
        JointScorer([log_p], blank=BLANK, eos_id=EOS, weight=share)(said, [Window([PROMPT], source=0)])
        for share in (1.0, weight)
    )
    assert torch.allclose(mixed, weight * ctc + (1 - weight) * said)


def test_a_weight_of_nothing_is_attention_and_a_weight_of_one_is_ctc():
    model, heard = both(), sources(17, 30)
    beam = Beam(num_beams=64, n_best=1, length_penalty=0.0, max_new_tokens=8)
    by_attention = transcribe(model, tokenizer(), heard, beam=beam, method="attention")
    assert transcribe(model, tokenizer(), heard, beam=beam, ctc_weight=0.0) == by_attention
    by_ctc = transcribe(model, tokenizer(), heard, beam=beam, method="ctc")
    jointly = transcribe(model, tokenizer(), heard, beam=beam, ctc_weight=1.0)
    assert [one.text for one in jointly] == [one.text for one in by_ctc]
    for one, other in zip(jointly, by_ctc, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-6)
    assert [one.text for one in by_ctc] != [one.text for one in by_attention]  # else nothing was shown


# --- one source and many ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_many_sources_come_out_as_each_alone(method, num_beams):
    model, heard = both(), sources(31, 4, 18, 57, 18)
    beam = Beam(num_beams=num_beams, max_new_tokens=12, min_new_tokens=5 if method == "attention" else 0)
    together = transcribe(model, tokenizer(), heard, beam=beam, method=method, words=True, seconds=0.01)
    alone = [
        transcribe(model, tokenizer(), [one], beam=beam, method=method, words=True, seconds=0.01)[0] for one in heard
    ]
    assert [one.hypotheses[0].ids for one in together] == [one.hypotheses[0].ids for one in alone]
    assert [one.text for one in together] == [one.text for one in alone]
    assert len({one.hypotheses[0].ids for one in together}) > 2  # else nothing was shown
    for one, other in zip(together, alone, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert [(word.text, word.start, word.end) for word in one.words] == [
            (word.text, word.start, word.end) for word in other.words
        ]


@pytest.mark.parametrize("length", range(1, 10))
def test_frames_are_counted_as_the_convolutions_leave_them(length):
    assert n_frames_of(both().config, length) == both().read(sources(length)[0][None]).states.shape[1]


def test_an_encoder_alone_is_read_by_ctc():
    heard = sources(31, 4, 18)
    greedy = transcribe(ctc_only(), tokenizer(), heard, beam=Beam(num_beams=1))
    searched = transcribe(ctc_only(), tokenizer(), heard, beam=Beam(num_beams=8, n_best=3))
    assert all(one.score >= other.score for one, other in zip(searched, greedy, strict=True))
    assert [len(one.texts) for one in searched] == [3, 3, 3]
    assert [one.score for one in searched] == [one.hypotheses[0].log_probability for one in searched]


def test_a_beam_of_one_takes_the_likeliest_token_each_time():
    model, heard = both(), sources(31, 18)
    memory = model.read(torch.stack([heard[0], heard[0]]))
    start = tokenizer().special_tokens[START]
    (drawn,) = generate_ids(
        model,
        [[start]],
        max_new_tokens=10,
        sampling=Sampling(temperature=0),
        eos_id=tokenizer().eos_id,
        memory=memory.rows([0]),
    )
    (found, _) = transcribe(model, tokenizer(), heard, beam=Beam(num_beams=1, max_new_tokens=10), method="attention")
    assert found.hypotheses[0].ids == drawn.ids


def test_a_text_that_is_cut_off_is_said():
    (found,) = transcribe(
        both(), tokenizer(), sources(40), beam=Beam(num_beams=2, max_new_tokens=1), method="attention"
    )
    assert found.notes == (f"cut off after 1 tokens: {found.text!r}",)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "attention"}, "needs a decoder"),
        ({"method": "joint"}, "needs a decoder"),
        ({"method": "jont"}, "not one of attention, ctc, joint .did you mean 'joint'"),
        ({"ctc_weight": 0.5}, "is for method='joint', not for 'ctc'"),
        ({"words": "attention"}, "is not among what times the words of this model: ctc"),
    ],
)
def test_what_an_encoder_does_not_have_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        transcribe(ctc_only(), tokenizer(), sources(8), **settings)


@pytest.mark.parametrize("weight", [-0.1, 1.5, math.nan])
def test_a_weight_out_of_range_is_refused(weight):
    with pytest.raises(ConfigError, match="out of range"):
        transcribe(both(), tokenizer(), sources(8), ctc_weight=weight)


def test_a_model_without_ctc_searches_by_attention():
    model = both(ctc_blank=None)
    (found,) = transcribe(model, tokenizer(), sources(20), words=True, beam=Beam(max_new_tokens=9, min_new_tokens=9))
    assert found.words
    with pytest.raises(ConfigError, match="made without; use method='attention'"):
        transcribe(model, tokenizer(), sources(20), method="joint")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.zeros(4, 2), r"the shape \[4, 2\]: expected vectors of 3 channels"),
        (torch.zeros(0, 3), "is empty"),
        (torch.zeros(97, 3), "has 97 vectors, more than the 96"),
        (torch.full((4, 3), math.nan), "not finite"),
    ],
)
def test_vectors_that_cannot_be_read_are_refused(source, message):
    with pytest.raises(ConfigError, match=message):
        transcribe(both(), tokenizer(), [source])


def test_a_model_of_texts_is_refused():
    model = build_model(ModelConfig.parse({"vocab_size": tokenizer().vocab_size, "d_model": 8, "n_layers": 1}))
    with pytest.raises(ConfigError, match="goes on from a text"):
        transcribe(model, tokenizer(), sources(8))


def test_a_model_that_diverged_is_said():
    model = loudly(ctc_only().config)
    with torch.no_grad():
        model.head.linear.weight.fill_(math.nan)
    with pytest.raises(GlassformerError, match="not finite"):
        transcribe(model, tokenizer(), sources(8))


# --- times of words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe", "words"])
def test_words_are_spelled_by_the_tokens_that_hold_their_letters(kind):
    texts = ["turn it on, please", " on  and\non", "naïve été", "ok"]
    known = train_tokenizer(kind, texts * 5, vocab_size={"bpe": 280}.get(kind))
    for text in texts:
        ids = known.encode(text)
        found = spellings(known, ids)
        assert [word.text for word in found] == known.decode(ids).split()
        for word in found:
            assert word.text in known.decode(ids[word.first : word.last + 1])
            assert word.text not in known.decode(ids[word.first + 1 : word.last + 1])
            assert word.text not in known.decode(ids[word.first : word.last])


def test_special_tokens_and_halves_of_characters_belong_to_no_other_word():
    known = train_tokenizer("bytes", ["é a"])
    eos, half = known.eos_id, known.encode("é")[0]
    found = spellings(known, [*known.encode("a "), eos, *known.encode("é"), half])
    assert [(word.text, word.first, word.last) for word in found] == [("a", 0, 0), ("é\ufffd", 3, 5)]


def test_writing_without_spaces_has_a_word_for_each_character():
    known = train_tokenizer("characters", ["我爱 ok你"])
    found = spellings(known, known.encode("我爱 ok你"))
    assert [word.text for word in found] == ["我", "爱", "ok", "你"]


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000))
def test_the_path_is_the_cheapest(n, t, seed):
    cost = np.random.default_rng(seed).normal(0, 1, (n, t))

    def cheapest(i: int, j: int) -> float:
        before = [cheapest(a, b) for a, b in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if a >= 0 and b >= 0]
        return cost[i, j] + min(before, default=0.0)

    rows, columns = warp(cost)
    assert cost[rows, columns].sum() == pytest.approx(cheapest(n - 1, t - 1))
    assert (rows[0], columns[0], rows[-1], columns[-1]) == (0, 0, n - 1, t - 1)
    steps = {(int(a), int(b)) for a, b in zip(np.diff(rows), np.diff(columns), strict=True)}
    assert steps <= {(0, 1), (1, 0), (1, 1)}


@pytest.mark.slow  # transformers takes long to load
def test_the_path_and_the_smoothing_are_those_of_transformers():
    whisper = pytest.importorskip("transformers.models.whisper.generation_whisper")
    numbers = np.random.default_rng(0).normal(0, 1, (3, 9, 40))
    theirs = whisper._median_filter(torch.from_numpy(numbers)[None], 7)[0].numpy()
    assert np.allclose(running_median(numbers, 7), theirs)
    rows, columns = whisper._dynamic_time_warping(numbers[0])
    assert (rows.tolist(), columns.tolist()) == tuple(part.tolist() for part in warp(numbers[0]))


def test_heads_that_look_at_one_stretch_after_the_other_tell_when_each_token_began():
    weights = np.full((2, 3, 30), 0.001)
    for token, (first, end) in enumerate([(0, 10), (10, 22), (22, 30)]):
        weights[:, token, first:end] = 1.0
    assert looked_at(weights).tolist() == [0, 10, 22]


def test_the_decoder_is_watched_where_it_is_asked():
    model, heard = both(), sources(40)
    by_ctc, by_attention = (
        transcribe(model, tokenizer(), heard, words=words, seconds=0.01, beam=Beam(max_new_tokens=9))[0]
        for words in ("ctc", "attention")
    )
    assert [word.text for word in by_ctc.words] == [word.text for word in by_attention.words] == by_ctc.text.split()
    for found in (by_ctc, by_attention):
        assert all(0 <= word.start <= word.end <= 0.4 and 0 < word.probability <= 1 for word in found.words)
        assert [word.start for word in found.words] == sorted(word.start for word in found.words)


def test_what_was_found_is_json_as_transcription_interfaces_have_it():
    (found,) = transcribe(ctc_only(), tokenizer(), sources(20), words=True, seconds=0.01)
    told = found.to_dict()
    assert set(told) == {"text", "language", "duration", "segments"}
    (segment,) = told["segments"]
    assert (segment["id"], segment["start"], segment["end"], segment["text"]) == (0, 0.0, 0.2, found.text)
    assert [word["word"] for word in segment["words"]] == found.text.split()
    assert "temperature" not in segment
