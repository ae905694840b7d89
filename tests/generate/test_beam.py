"""Searches worked out by hand: what is found, when they end, what is read and recorded, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from beams import Table, Toy, ToyMemory
from glassformer.errors import ConfigError, GlassformerError
from glassformer.generate import Beam, Generation, Sampling, beam_search, generate_ids, generate_text, stream_text
from glassformer.models import Decoder, ModelConfig, build_model
from glassformer.tokenizers import Tokenizer, train_tokenizer

EOS, START = 0, 1
GREEDY = Sampling(temperature=0)

# Tokens 0 (eos), 1, 2. Greedy begins with 1 and ends with probability 0.6 x 0.4; the likeliest text is 2 0, with 0.4 x 0.9.
FORK = {(): [0.0, 0.6, 0.4], (1,): [0.4, 0.3, 0.3], (2,): [0.9, 0.05, 0.05]}
# One text of one token with probability 0.3, one of three tokens with 0.7 x 0.8 x 0.5.
LONG = {(): [0.3, 0.7, 0.0], (1,): [0.0, 0.8, 0.2], (1, 1): [0.5, 0.25, 0.25]}


def search(model: Toy, *, prompts: int = 1, **settings):
    arguments = {name: settings.pop(name) for name in ("forced", "limits", "record", "memory") if name in settings}
    return beam_search(model, [[START]] * prompts, Beam(**settings), eos_id=EOS, **arguments)


def texts(result) -> list[tuple[int, ...]]:
    return [hypothesis.ids for hypothesis in result.hypotheses]


def test_two_beams_find_what_greedy_misses():
    (greedy,), (searched,) = search(Table(FORK), num_beams=1), search(Table(FORK), num_beams=2)
    assert texts(greedy) == [(1, 0)]
    assert texts(searched) == [(2, 0)]
    assert searched.hypotheses[0].log_probability == pytest.approx(math.log(0.4 * 0.9))


@pytest.mark.parametrize(
    ("penalty", "ids", "score"),
    [
        (0.0, (0,), math.log(0.3)),
        (1.0, (1, 1, 0), math.log(0.7 * 0.8 * 0.5) / 3),
        (2.0, (1, 1, 0), math.log(0.7 * 0.8 * 0.5) / 9),
        (-1.0, (0,), math.log(0.3)),
    ],
)
def test_the_length_penalty_decides_between_short_and_long(penalty, ids, score):
    ((best,),) = (
        result.hypotheses for result in search(Table(LONG), num_beams=3, length_penalty=penalty, max_new_tokens=3)
    )
    assert (best.ids, best.finish, best.score) == (ids, "eos", pytest.approx(score))


def test_the_n_best_are_fewer_where_there_are_no_more():
    (result,) = search(Table({(): [0.5, 0.5, 0.0]}), num_beams=4, n_best=4)
    assert texts(result) == [(1, 0), (0,)]


def test_a_text_that_is_cut_competes_with_those_that_ended():
    (result,) = search(Table(LONG), num_beams=2, n_best=2, max_new_tokens=2, length_penalty=0)
    assert [(hypothesis.ids, hypothesis.finish) for hypothesis in result.hypotheses] == [
        ((1, 1), "length"),
        ((0,), "eos"),
    ]


@pytest.mark.parametrize(("stopping", "reads"), [("likely", 2), ("first", 3), ("exact", 7)])
def test_a_search_ends_when_its_rule_says(stopping, reads):
    """The text 1 0 scores log(0.6) / 2 = -0.255, and no longer one as much. After n more tokens the rest has log(0.4^n),
    which could be divided by 20 at best: that is less from n = 6 on."""
    model = Table({(): [0.0, 1.0, 0.0], **{(1,) * n: [0.6, 0.4, 0.0] for n in range(1, 30)}})
    (result,) = search(model, num_beams=2, early_stopping=stopping, max_new_tokens=20)
    assert (texts(result), model.reads) == ([(1, 0)], reads)


def test_without_a_penalty_the_search_is_over_when_the_rest_is_less_likely():
    model = Table({(): [0.6, 0.4, 0.0]})
    (result,) = search(model, num_beams=2, length_penalty=0)
    assert (texts(result), model.reads) == ([(0,)], 1)


def test_each_source_has_its_own_limit():
    model = Toy(3, seed=5)
    results = search(model, prompts=3, limits=[0, 1, 4], min_new_tokens=4, num_beams=2, max_new_tokens=4)
    assert [len(result.hypotheses[0].ids) for result in results] == [0, 1, 4]


def test_nothing_asked_for_is_nothing_read():
    model = Toy(3, seed=5)
    (result,) = search(model, max_new_tokens=0)
    assert (texts(result), result.hypotheses[0].score, model.reads) == ([()], 0.0, 0)
    assert beam_search(model, [], Beam(), eos_id=EOS) == []


def test_without_an_eos_token_every_text_has_its_full_length():
    (result,) = beam_search(Toy(3, seed=1), [[1]], Beam(max_new_tokens=5, n_best=4), eos_id=None)
    assert {len(ids) for ids in texts(result)} == {5}


# What is read


@pytest.fixture
def model() -> Decoder:
    model = build_model(ModelConfig(vocab_size=10, max_len=8, d_model=16, n_layers=1, n_heads=2, dropout=0.5), seed=3)
    with torch.no_grad():
        model.head.linear.weight.normal_(generator=torch.Generator().manual_seed(3))
    return model


@pytest.fixture
def reads(model: Decoder) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of the ids of every call of the model."""
    shapes: list[tuple[int, ...]] = []
    hook = model.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    yield shapes
    hook.remove()


def test_a_prompt_is_read_once_for_all_its_beams(model, reads):
    beam_search(model, [[1, 2, 3], [4, 5]], Beam(num_beams=3, max_new_tokens=4), eos_id=None)
    assert reads == [(2, 3), (6, 1), (6, 1), (6, 1)]


def test_sources_that_are_done_leave_the_batch(model, reads):
    beam_search(model, [[1, 2], [3]], Beam(num_beams=3, max_new_tokens=4), eos_id=None, limits=[2, 4])
    assert reads == [(2, 2), (6, 1), (3, 1), (3, 1)]


def test_a_full_context_slides_and_says_so(model, reads):
    (result,) = beam_search(model, [[1, 2, 3, 4, 5, 6]], Beam(num_beams=2, max_new_tokens=5), eos_id=None)
    assert reads == [(1, 6), (2, 1), (2, 1), (2, 6), (2, 1)]
    assert result.notes == ("the context of 8 tokens is full: going on with the last 6",)


def test_a_model_in_training_is_read_without_dropout_and_goes_on_training(model):
    model.train()
    once, again = (beam_search(model, [[1]], Beam(max_new_tokens=7), eos_id=0) for _ in range(2))
    assert once == again
    assert model.training


def test_a_memory_is_handed_over_once_for_each_source():
    asked: list[tuple[int, int, int]] = []

    class Asked(Toy):
        def new_cache(self, batch, max_len=None, *, memory=None, beams=1):
            asked.append((batch, len(memory), beams))
            return super().new_cache(batch, max_len, memory=memory, beams=beams)

    memory = ToyMemory([(1,), (2,), (3,)])
    beam_search(Asked(4, 1), [[1]] * 2, Beam(num_beams=3, max_new_tokens=3), eos_id=0, memory=memory, sources=[2, 0])
    assert asked == [(6, 2, 3)]


# Rules


def test_a_minimum_gives_way_where_nothing_but_the_end_is_left():
    (result,) = search(Toy(3, seed=2), num_beams=3, min_new_tokens=9, max_new_tokens=9, no_repeat_ngram_size=1)
    assert texts(result) == [(2, 0)]  # 1 is in the prompt
    (drawn,) = generate_ids(
        Toy(3, seed=2), [[START]], max_new_tokens=9, eos_id=EOS, min_new_tokens=9, no_repeat_ngram_size=1
    )
    assert drawn.ids == (2, 0)


def test_a_beginning_may_repeat_itself_and_what_follows_may_not():
    (result,) = search(
        Toy(4, seed=2), num_beams=2, forced=[[2, 2, 2]], no_repeat_ngram_size=2, min_new_tokens=5, max_new_tokens=6
    )
    assert texts(result)[0][:3] == (2, 2, 2)
    assert texts(result)[0][3] != 2


def test_where_no_token_is_left_and_none_ends_the_text_it_is_said():
    for write in (
        lambda: beam_search(Toy(3, 0), [[1]], Beam(no_repeat_ngram_size=1), eos_id=None),
        lambda: generate_ids(Toy(3, 0), [[1]], max_new_tokens=9, no_repeat_ngram_size=1),
    ):
        with pytest.raises(GlassformerError, match="no token can come next: no_repeat_ngram_size=1"):
            write()


# What is recorded


def test_the_tree_says_why_each_candidate_was_dropped():
    (result,) = search(Table(FORK), num_beams=2, record=True, length_penalty=0, min_new_tokens=1, forced=[[2]])
    assert result.tree is not None
    told = [(node.step, node.token, node.rank, node.state, node.why) for node in result.tree.nodes]
    assert told == [
        (0, 2, 1, "kept", ""),
        (0, 1, None, "pruned", "not the forced prefix"),
        (1, 0, 1, "finished", "eos"),
        (1, 1, 2, "pruned", "can reach -3.9120 at best, and the finished have -1.0217"),
        (1, 2, 3, "pruned", "can reach -3.9120 at best, and the finished have -1.0217"),
    ]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"num_beams": 1}, "rank 2 of beam 1"),
        ({"num_beams": 2, "no_repeat_ngram_size": 1}, "repeats a 1-gram"),
        ({"num_beams": 2, "min_new_tokens": 2}, "ends with fewer than 2 tokens"),
        ({"num_beams": 2, "early_stopping": "first"}, "2 have finished"),
        ({"num_beams": 1}, "one has finished"),
        ({"num_beams": 4, "max_new_tokens": 2}, "length"),
    ],
)
def test_every_reason_is_given_in_words(settings, why):
    model = Table({**FORK, (1,): [0.4, 0.35, 0.25], (1, 1): [0.5, 0.25, 0.25]})
    (result,) = search(model, record=True, **settings)
    assert result.tree is not None
    assert why in {node.why for node in result.tree.nodes}


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 0}, "num_beams=0 is out of range: expected 1 or more"),
        ({"n_best": 5}, "n_best=5 is more than num_beams=4 can hold"),
        ({"length_penalty": 99}, "length_penalty=99.0 is out of range: expected -20 to 20"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size=-1 is out of range: expected 0 or more"),
        ({"min_new_tokens": 300}, "min_new_tokens=300 is more than max_new_tokens=200"),
        ({"early_stopping": "never"}, "early_stopping"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, message):
    with pytest.raises(ConfigError) as refusal:
        Beam.parse(settings)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"forced": [[2] * 6]}, "forced prefix 0 has 6 tokens, of which only 5 may be written"),
        ({"forced": [[2, 0]]}, "forced prefix 0 holds the eos token 0, after which nothing can follow"),
        ({"forced": [[3]]}, "forced prefix 0 holds the token id 3, but the model knows ids 0 to 2 only"),
        ({"sources": [0]}, "sources are rows of a memory, and there is none"),
        ({"memory": ToyMemory([])}, "prompt 0 belongs to source 0, but the memory has 0 sources"),
        ({"memory": ToyMemory([()]), "sources": [0, 0]}, "1 prompts came with 2 sources: expected one for each"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ConfigError) as refusal:
        beam_search(Toy(3, 0), [[1]], Beam(max_new_tokens=5), eos_id=EOS, **arguments)
    assert message in str(refusal.value)
    with pytest.raises(ConfigError) as refusal:
        generate_ids(Toy(3, 0), [[1]], max_new_tokens=5, eos_id=EOS, **arguments)
    assert message in str(refusal.value)


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(ConfigError, match="a limit of -1 new tokens cannot be kept"):
        beam_search(Toy(3, 0), [[1]], Beam(), eos_id=EOS, limits=[-1])
    with pytest.raises(ConfigError, match="prompt 1 has no tokens"):
        beam_search(Toy(3, 0), [[1], []], Beam(), eos_id=EOS)


def test_logits_that_are_not_numbers_are_refused(model):
    with torch.no_grad():
        model.head.linear.weight[3] = math.nan
    with pytest.raises(GlassformerError, match="not finite numbers"):
        beam_search(model, [[1]], Beam(), eos_id=0)


# Text


@pytest.fixture(scope="module")
def writer() -> tuple[Decoder, Tokenizer]:
    tokenizer = train_tokenizer("characters", ["abc de"])
    model = build_model(
        ModelConfig(vocab_size=tokenizer.vocab_size, max_len=16, d_model=16, n_layers=1, n_heads=2), seed=4
    )
    with torch.no_grad():
        model.head.linear.weight.normal_(generator=torch.Generator().manual_seed(4))
    return model, tokenizer


def test_the_n_best_texts_of_each_prompt_come_best_first(writer):
    model, tokenizer = writer
    generation = Generation(num_beams=4, n_best=3, max_new_tokens=8)
    found = generate_text(model, tokenizer, ["a", "bc"], generation=generation)
    assert [completion.prompt for completion in found] == ["a"] * 3 + ["bc"] * 3
    ids = [tokenizer.encode("a"), tokenizer.encode("bc")]
    results = beam_search(model, ids, generation.beam, eos_id=tokenizer.eos_id)
    hypotheses = [hypothesis for result in results for hypothesis in result.hypotheses]
    for completion, hypothesis in zip(found, hypotheses, strict=True):
        assert completion.text == tokenizer.decode(hypothesis.ids, skip_special=True)
        assert (completion.completion.ids, completion.completion.score) == (hypothesis.ids, hypothesis.score)


def test_a_searched_text_streams_in_one_piece(writer):
    model, tokenizer = writer
    generation = Generation(num_beams=3, n_best=2, max_new_tokens=20)
    notes: list[str] = []
    pieces = list(stream_text(model, tokenizer, "abc", generation=generation, sample=1, on_note=notes.append))
    _, second = generate_text(model, tokenizer, ["abc"], generation=generation)
    assert pieces == [second.text]
    assert tuple(notes) == second.completion.notes


def test_a_stop_string_cuts_what_was_found(writer):
    model, tokenizer = writer
    generation = Generation(num_beams=3, max_new_tokens=8, min_new_tokens=8)
    (whole,) = generate_text(model, tokenizer, ["a"], generation=generation)
    stop = whole.text[-2]
    (cut,) = generate_text(model, tokenizer, ["a"], generation=generation.updated({"stop": (stop,)}))
    assert (cut.text, cut.completion.finish) == (whole.text[: whole.text.index(stop)], "stop")
    assert cut.completion.ids == whole.completion.ids[: len(cut.completion.ids)]
    assert tokenizer.decode(cut.completion.ids[-1:]) == stop


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_text_begins_as_it_must(writer, num_beams):
    model, tokenizer = writer
    generation = Generation(num_beams=num_beams, max_new_tokens=8, no_repeat_ngram_size=2, min_new_tokens=6)
    first, second = generate_text(model, tokenizer, ["a", "b"], generation=generation, forced=["dec", ""])
    assert first.text.startswith("dec")
    assert first.text == "".join(stream_text(model, tokenizer, "a", generation=generation, forced="dec"))
    assert min(len(found.completion.ids) for found in (first, second)) >= 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 2, "num_samples": 2}, "num_samples=2 and num_beams=2: what is searched is not drawn"),
        ({"n_best": 2}, "n_best=2 is more than num_beams=1 can hold"),
        ({"min_new_tokens": -1}, "min_new_tokens=-1 is out of range"),
    ],
)
def test_settings_of_a_text_that_cannot_be_meant_are_refused(settings, message):
    with pytest.raises(ConfigError) as refusal:
        Generation.parse(settings)
    assert message in str(refusal.value)
