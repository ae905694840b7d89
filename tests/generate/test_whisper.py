"""Whisper's way through a sound: steering tokens, times in order, second tries, silence, windows, words; by models that say
what they are told."""

from __future__ import annotations

import itertools
import math
import resource
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from glassformer.errors import CheckpointError, ConfigError
from glassformer.features import extract
from glassformer.generate.transcription import Segment, Word
from glassformer.generate.whisper import WhisperSettings, is_whispers, settings_of, transcribe_sound, windows_heard
from glassformer.generate.whisper.decoding import compression_ratio, decode_window
from glassformer.generate.whisper.rules import Rules
from glassformer.generate.whisper.sound import Sound
from glassformer.generate.whisper.tokens import Tokens
from glassformer.generate.whisper.words import is_odd, without_hallucinations
from glassformer.pipeline import Pipeline
from glassformer.tokenizers import train_tokenizer
from whispers import (
    FEATURES,
    TIMES,
    Script,
    Scripted,
    generation,
    id_of,
    ids_of,
    noise,
    random_whisper,
    tokenizer,
    vocab_size,
)


def told(**more: Any) -> Tokens:
    return Tokens.of(tokenizer(), generation(**more), vocab_size())


def hear(model: Any, seconds: float = 1.0, **settings: Any) -> Any:
    """What a model hears in noise of so many seconds."""
    return transcribe_sound(
        model, tokenizer(), FEATURES, generation(), [noise(seconds)], WhisperSettings(**{"language": "en", **settings})
    )


def asked(model: Scripted) -> list[str]:
    """The prompts of a model, in words."""
    return [tokenizer().decode([id for id in prompt if id < tokenizer().vocab_size]) for prompt in model.asked]


# Steering


def test_a_transcript_begins_after_start_language_task_and_whether_times_are_told() -> None:
    names = [*("<|startoftranscript|>", "<|de|>", "<|translate|>"), "<|notimestamps|>"]
    assert told().beginning("de", "translate", times=False) == [id_of(name) for name in names]
    assert told().beginning("German", "translate", times=True) == [id_of(name) for name in names[:3]]
    english = told(is_multilingual=False)
    assert english.beginning(None, "transcribe", times=True) == [id_of("<|startoftranscript|>")]


@pytest.mark.parametrize(
    ("language", "complaint"), [("dutch", "'dutch' is not known to this model"), ("xx", "'xx' is not known")]
)
def test_a_language_that_a_model_does_not_know_is_named(language: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        told().code(language)


def test_models_of_english_alone_refuse_other_languages_and_translating() -> None:
    english = told(is_multilingual=False)
    with pytest.raises(ConfigError, match="knows English alone"):
        english.code("de")
    with pytest.raises(ConfigError, match="nothing to translate from"):
        english.check_task("translate")
    assert english.code("English") == "en"


def test_a_tokenizer_without_the_steering_tokens_is_refused() -> None:
    plain = train_tokenizer("bytes", ["a"])
    assert is_whispers(tokenizer())
    assert not is_whispers(plain)
    with pytest.raises(CheckpointError, match="startoftranscript"):
        Tokens.of(plain, {}, 300)


def test_the_language_is_heard_where_nobody_names_it() -> None:
    model = Scripted(Script([ids_of("0.00", "ja", "0.50")]), language="<|de|>")
    found = hear(model, language=None)
    assert found.language == "de"
    assert asked(model) == ["<|startoftranscript|><|de|><|transcribe|>"]


# Rules


def allowed(*written: str, times: bool = True) -> set[int]:
    """The tokens that may come next, where the end is so likely that times are not before all else."""
    text = ids_of(*written)
    logits = torch.zeros(1, vocab_size())
    logits[0, tokenizer().eos_id] = 10.0
    logits = Rules.of(told(suppress_tokens=[33], begin_suppress_tokens=[32]), times=times)(logits, [text], len(text))
    return set(logits[0].isfinite().nonzero()[:, 0].tolist())


FIRST = tokenizer().special_tokens["<|notimestamps|>"] + 1
PLAIN = set(range(256)) - {33}


def test_a_text_begins_with_a_time_and_goes_on_with_text() -> None:
    assert allowed() == set(range(FIRST, FIRST + TIMES))
    assert allowed("0.20") >= PLAIN
    assert not any(id >= FIRST for id in allowed("0.20"))


def test_a_time_that_ends_a_text_is_followed_by_that_time_a_later_one_or_the_end() -> None:
    after = allowed("0.00", "a", "0.50")
    assert not after & PLAIN
    assert {id for id in after if id >= FIRST} == set(range(id_of("0.50"), FIRST + TIMES))
    assert tokenizer().eos_id in after


def test_times_never_go_back_nor_stand_still_within_a_text() -> None:
    after = allowed("0.00", "a", "0.50", "0.50", "b")
    assert min((id for id in after if id >= FIRST), default=10**6) >= id_of("0.52")


def test_steering_tokens_and_those_of_the_folder_never_come() -> None:
    for written in ((), ("0.00",), ("0.00", "a")):
        found = allowed(*written)
        assert not found & {33, *map(id_of, ("<|startoftranscript|>", "<|translate|>", "<|transcribe|>"))}
        assert not found & {id_of("<|notimestamps|>"), id_of("<|startofprev|>"), id_of("<|nospeech|>")}
    assert 32 not in allowed(times=False)
    assert 32 in allowed("a", times=False)


def test_the_rules_follow_the_logits_to_any_device() -> None:
    """A search computes where there are numbers of 64 bits, whatever the model does."""
    elsewhere = torch.empty(2, vocab_size(), device="meta")
    for times, new in ((False, 0), (False, 1)):
        rules = Rules.of(told(suppress_tokens=[33], begin_suppress_tokens=[32]), times=times)
        assert rules(elsewhere, [[65]] * 2, new).device.type == "meta"
    assert not any(isinstance(value, torch.Tensor) for value in vars(Rules.of(told(), times=True)).values())


def test_where_all_times_are_likelier_than_any_text_one_of_them_comes() -> None:
    logits = torch.zeros(1, vocab_size())
    logits[0, 65] = math.log(30.0)  # less than the 50 times that may come together
    rules = Rules.of(told(), times=True)
    text = ids_of("0.00", "a")
    assert int(rules(logits, [text], 2).argmax()) >= FIRST
    logits[0, 65] = math.log(60.0)
    assert int(rules(logits, [text], 2).argmax()) == 65


def test_the_first_time_is_not_too_late() -> None:
    rules = Rules.of(told(max_initial_timestamp_index=10), times=True)
    found = rules(torch.zeros(1, vocab_size()), [[]], 0)[0].isfinite().nonzero()[:, 0]
    assert found.max() == FIRST + 10


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=30))
def test_whatever_is_drawn_the_times_are_in_order_and_in_pairs(draws: list[int]) -> None:
    rules = Rules.of(told(), times=True)
    text: list[int] = []
    for number in draws:
        logits = torch.randn(1, vocab_size(), generator=torch.Generator().manual_seed(number))
        choices = rules(logits, [text], len(text))[0].isfinite().nonzero()[:, 0].tolist()
        assert choices
        text.append(choices[number % len(choices)])
        if text[-1] == tokenizer().eos_id:
            break
    times = [id for id in text if id >= FIRST]
    assert times == sorted(times)
    assert text[0] >= FIRST
    assert not any(a >= FIRST and b >= FIRST and c >= FIRST for a, b, c in zip(text, text[1:], text[2:], strict=False))


# Second tries


def test_a_text_that_repeats_itself_is_tried_again_at_higher_temperatures() -> None:
    again = ids_of("0.00", "ababababab" * 3, "1.00")[:19]
    model = Scripted(Script([again, again, ids_of("0.00", "fine", "0.60")]))
    found = hear(model, compression_ratio_threshold=1.2, logprob_threshold=None, best_of=1)
    assert found.text == "fine"
    assert found.segments[0].temperature == 0.4
    assert len(model.asked) == 3


def test_an_unlikely_text_is_tried_again_until_the_last_temperature() -> None:
    model = Scripted(Script([ids_of("0.00", "hm", "0.60")], sure=3.0))
    settings = WhisperSettings(logprob_threshold=-0.5, temperature_increment_on_fallback=0.5, best_of=1)
    found = decode_window(
        model, model.read(torch.zeros(1, 100, 8)), told(), settings, ids_of("<|startoftranscript|>", "a")
    )
    assert len(model.asked) == 3
    assert found.temperature == 1.0
    assert found.avg_logprob < -0.5


@pytest.mark.parametrize(
    ("settings", "tried"),
    [
        ({}, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        ({"temperature": 0.5, "temperature_increment_on_fallback": 0.25}, (0.5, 0.75, 1.0)),
        ({"temperature_increment_on_fallback": None}, (0.0,)),
        ({"temperature": (0.0, 0.3)}, (0.0, 0.3)),
        ({"temperature": 1.5}, (1.5,)),
    ],
)
def test_the_temperatures_that_are_tried(settings: dict[str, Any], tried: tuple[float, ...]) -> None:
    assert WhisperSettings(**settings).temperatures == tried


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"temperature": -1}, "temperature=-1 is out of range"),
        ({"hallucination_silence_threshold": 2.0}, "set word_timestamps"),
        ({"tempreature": 0}, "temperature"),
        ({"task": "sing"}, "task"),
        ({"num_beams": 0}, "num_beams"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        settings_of(settings)


def test_what_repeats_itself_compresses_better() -> None:
    assert compression_ratio("no, no, no, no, no, no, no, no, no, no, no, no") > 2.4
    assert compression_ratio("The quick brown fox jumps over the lazy dog.") < 1.1
    assert compression_ratio("") == 0.0


# Silence


def test_a_window_in_which_nobody_speaks_is_left_out() -> None:
    quiet = Script([ids_of("0.00", "thanks", "0.50")], sure=3.0, silent=9.0)
    loud = Script([ids_of("0.00", "yes", "0.50")])
    model = Scripted(quiet, loud)
    found = hear(model, 2.0)
    assert found.text == "yes"
    assert [round(segment.start, 2) for segment in found.segments] == [1.0]
    assert len(model.asked) == 2  # once each: silence is not tried again


def test_a_likely_text_is_kept_whatever_the_first_token_says() -> None:
    found = hear(Scripted(Script([ids_of("0.00", "yes", "0.50")], silent=9.0)))
    assert found.text == "yes"
    assert found.segments[0].no_speech_prob > 0.9


# Windows


def test_the_next_window_begins_where_the_last_text_ended() -> None:
    first = Script([ids_of("0.00", " one", "0.40", "0.40", " two", "0.70", "0.70", " thr")[:17]])
    second = Script([ids_of("0.00", " three", "0.80")])
    model = Scripted(first, second)
    found = hear(model, 1.7)
    assert [(segment.start, segment.end, segment.text) for segment in found.segments] == [
        (0.0, 0.4, "one"),
        (0.4, 0.7, "two"),
        (0.7, 1.5, "three"),
    ]
    assert found.text == "one two three"
    assert found.duration == pytest.approx(1.7)


def test_a_time_at_the_end_says_that_nothing_follows() -> None:
    model = Scripted(Script([ids_of("0.00", "a", "0.40", "0.40", "b", "0.60")]), Script([ids_of("0.10", "c", "0.20")]))
    found = hear(model, 1.5)
    assert [segment.start for segment in found.segments] == [0.0, 0.4, 1.0]  # the second window begins after the first
    assert [segment.end for segment in found.segments] == [0.4, 0.6, 1.2]


def test_times_at_the_very_beginning_do_not_stop_the_way() -> None:
    standing = Script([ids_of("0.00", "a", "0.02", "0.02", "b")])
    found = hear(Scripted(*[standing] * 60), 1.0)
    assert found.segments
    assert all(segment.start <= segment.end for segment in found.segments)


def test_no_segment_reaches_behind_the_end() -> None:
    found = hear(Scripted(Script([ids_of("0.00", "a", "0.90")])), 0.5)
    assert found.segments[-1].end == 0.5 == found.duration


def test_what_came_before_is_told_to_the_next_window() -> None:
    one, two = Script([ids_of("0.00", " one", "0.90")]), Script([ids_of("0.00", " two", "0.90")])
    model = Scripted(one, two)
    hear(model, 2.0, initial_prompt="names")
    start = "<|startoftranscript|><|en|><|transcribe|>"
    assert asked(model) == [f"<|startofprev|> names{start}", f"<|startofprev|> names one{start}"]
    model = Scripted(one, two)
    hear(model, 2.0, initial_prompt="names", condition_on_previous_text=False)
    assert asked(model) == [f"<|startofprev|> names{start}", start]


def test_a_prompt_that_is_too_long_keeps_its_end() -> None:
    model = Scripted(Script([ids_of("0.00", "a", "0.90")]))
    hear(model, initial_prompt="x" * 50 + "end")
    (prompt,) = model.asked
    assert len(prompt) == 1 + 19 + 3
    assert asked(model)[0].startswith("<|startofprev|>xxx")
    assert "end<|start" in asked(model)[0]


def test_without_times_a_window_is_one_segment() -> None:
    model = Scripted(Script([ids_of("hello")]))
    found = hear(model, 0.8, timestamps=False)
    assert [(segment.start, segment.end, segment.text) for segment in found.segments] == [(0.0, 0.8, "hello")]
    assert model.asked[0][-1] == id_of("<|notimestamps|>")


def test_every_window_is_filled_up_with_silence() -> None:
    model = Scripted(Script([ids_of("0.00", "a", "0.90")]), Script([ids_of("0.00", "b", "0.20")]))
    hear(model, 1.3)
    assert [tuple(vectors.shape) for vectors in model.heard] == [(1, 100, 8)] * 2


def test_the_frames_of_the_windows_are_those_of_the_whole_sound() -> None:
    wave = np.concatenate([noise(1.2), (noise(1.3, 1) / 30_000).astype(np.float32)])
    whole = extract(torch.from_numpy(wave), FEATURES)

    def heard(**more: Any) -> torch.Tensor:
        model = Scripted(*[Script([ids_of("0.00", "a", "1.00")])] * 3)
        blocks = np.array_split(wave, 7)
        transcribe_sound(model, tokenizer(), FEATURES, generation(), blocks, WhisperSettings(language="en"), **more)
        return torch.cat([vectors[0] for vectors in model.heard])[: len(whole)]

    ours = heard(again=lambda: np.array_split(wave, 4))
    assert torch.allclose(
        ours[:-2], whole[:-2], atol=1e-5
    )  # behind the last sample is silence here, and a mirror there
    own = heard()  # without them each window counted from its own loudest
    assert torch.allclose(own[:100], whole[:100], atol=1e-5)
    assert (own[205:-2] < whole[205:-2] - 0.1).all()


def test_windows_are_told_as_they_come_and_blocks_are_read_no_sooner() -> None:
    read: list[int] = []

    def blocks() -> Iterator[np.ndarray]:
        for number in range(6):
            read.append(number)
            yield noise(0.5, number)

    windows = windows_heard(
        Scripted(*[Script([ids_of("0.00", "a", "0.90")])] * 4),
        tokenizer(),
        FEATURES,
        generation(),
        blocks(),
        WhisperSettings(language="en"),
    )
    assert next(windows).until == 1.0
    assert len(read) == 3  # the last frames of a window reach over its end
    assert [heard.until for heard in windows] == [2.0, 3.0]


def test_a_sound_of_three_hours_is_kept_in_bounded_memory() -> None:
    rate = 100  # the ways are the same at every rate
    sound = Sound(np.zeros(rate * 30, np.float32) for _ in range(360))
    start, most = 0, 0
    while len(window := sound.window(start, rate * 30)):
        most = max(most, len(sound._kept))
        start += min(len(window), rate * 28)
    assert start == sound.length == rate * 30 * 360
    assert most <= rate * 60


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_file_of_three_hours_is_transcribed_in_bounded_memory(tmp_path: Path) -> None:
    hours = 3
    most = {
        "max_new_tokens": 3,
        "timestamps": False,
        "temperature_increment_on_fallback": None,
        "no_speech_threshold": None,
    }
    features = FEATURES.updated({"chunk_seconds": 30})
    model = random_whisper(encoder={"max_len": 1500, "n_layers": 1})
    pipe = Pipeline(model, tokenizer(), generation(), features=features)
    path = tmp_path / "long.wav"

    def heard(seconds: int) -> tuple[int, float]:
        """Segments of silence of so many seconds, and the most memory so far, in megabytes."""
        size = seconds * 2 * 16_000
        head = (
            b"RIFF"
            + struct.pack("<I", 36 + size)
            + b"WAVEfmt "
            + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
        )
        path.write_bytes(head + b"data" + struct.pack("<I", size))
        with path.open("r+b") as file:
            file.truncate(44 + size)  # sparse: it takes no room on the disk
        found = pipe.transcribe(path, language="en", **most)
        assert found.duration == seconds
        return len(found.segments), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    _, before = heard(120)
    count, after = heard(hours * 3600)
    assert count == hours * 120
    assert after - before < 30


@given(st.lists(st.integers(0, 40), max_size=20), st.lists(st.integers(0, 30), min_size=1, max_size=20))
@example([25, 25, 1], [26, 0])
def test_windows_of_a_sound_are_those_of_the_whole(lengths: list[int], steps: list[int]) -> None:
    whole = np.arange(sum(lengths), dtype=np.float32)
    sound = Sound(np.split(whole, list(itertools.accumulate(lengths))[:-1]) if lengths else [])
    start = 0
    for step in steps:
        assert sound.window(start, 25).tolist() == whole[start : start + 25].tolist()
        start += step


# Searching and drawing


def test_a_beam_that_holds_every_first_token_finds_the_best_of_all_texts_of_two() -> None:
    once = {"temperature_increment_on_fallback": None, "max_new_tokens": 2, "length_penalty": 0.0}
    prompt = told().beginning("en", "transcribe", times=True)
    rules = Rules.of(told(), times=True)
    for seed in range(3):
        model = random_whisper(seed)
        memory = model.read(torch.randn(1, 100, 8, generator=torch.Generator().manual_seed(seed)))
        first = rules(model(torch.tensor([prompt]), memory=memory)[:, -1], [[]], 0).log_softmax(-1)[0]
        rows = [[id] for id in range(FIRST, FIRST + TIMES)]
        logits = model(torch.tensor([[*prompt, *row] for row in rows]), memory=memory.rows([0] * TIMES))[:, -1]
        both = rules(logits, rows, 1).log_softmax(-1) + first[FIRST:, None]
        best = int(both.argmax())
        found = decode_window(model, memory, told(), WhisperSettings(**once, num_beams=TIMES + 1), prompt)
        ended = [FIRST + best // vocab_size(), best % vocab_size()]
        assert list(found.ids) == [id for id in ended if id != tokenizer().eos_id]
        assert found.avg_logprob * (len(found.ids) + 1) == pytest.approx(float(both.max()), abs=1e-4)


def test_the_log_probability_is_that_of_the_tokens_under_the_rules() -> None:
    model, settings = random_whisper(), WhisperSettings(temperature_increment_on_fallback=None)
    memory = model.read(torch.randn(1, 100, 8))
    prompt = told().beginning("en", "transcribe", times=True)
    for chosen in (settings, settings.updated({"temperature": 0.7}), settings.updated({"num_beams": 3})):
        found = decode_window(model, memory, told(), chosen, prompt)
        rules, total = Rules.of(told(), times=True), 0.0
        ended = [*found.ids] if len(found.ids) == 20 else [*found.ids, tokenizer().eos_id]
        for number, id in enumerate(ended):
            logits = model(torch.tensor([[*prompt, *ended[:number]]]), memory=memory)[:, -1]
            total += float(rules(logits, [ended[:number]], number).log_softmax(-1)[0, id])
        assert found.avg_logprob == pytest.approx(total / (len(found.ids) + 1), abs=1e-4)


def test_draws_depend_on_the_seed_alone() -> None:
    model = random_whisper()
    heard = [hear(model, temperature=1.0, seed=seed, num_beams=1).text for seed in (1, 1, 2)]
    assert heard[0] == heard[1] != heard[2]


# Words


def test_words_have_times_within_their_window_and_in_order() -> None:
    model = random_whisper()
    found = hear(model, 1.6, word_timestamps=True, no_speech_threshold=None)
    for segment in found.segments:
        ends = [time for word in segment.words for time in (word.start, word.end)]
        assert ends == sorted(ends)
        assert all(0 <= time <= 1.6 for time in ends)
        assert "".join(word.text for word in segment.words) == "".join(segment.text.split())


def test_the_alignment_heads_of_the_folder_are_asked() -> None:
    model = random_whisper()
    wrong = generation(alignment_heads=[[7, 0]])
    with pytest.raises(ConfigError, match=r"head \(7, 0\) is not in a decoder"):
        transcribe_sound(
            model, tokenizer(), FEATURES, wrong, [noise(1.0)], WhisperSettings(word_timestamps=True, language="en")
        )
    with pytest.raises(ConfigError, match="no pairs of layer and head"):
        transcribe_sound(model, tokenizer(), FEATURES, generation(alignment_heads=[3]), [noise(1.0)])


def said(start: float, end: float, probability: float, text: str = "word") -> Segment:
    words = tuple(
        Word(text, start + i * (end - start) / 2, start + (i + 1) * (end - start) / 2, probability) for i in (0, 1)
    )
    return Segment(start, end, f"{text} {text}", (1, 2), words)


def test_odd_text_beside_long_silence_is_left_out() -> None:
    real, odd = said(1.0, 2.0, 0.9), said(20.0, 20.05, 0.05)
    assert is_odd(odd.words)
    assert not is_odd(real.words)
    assert without_hallucinations([real, odd], 2.0, (0.0, 30.0)) == [real]
    assert without_hallucinations([real, odd], None, (0.0, 30.0)) == [real, odd]
    assert without_hallucinations([real, said(2.1, 2.15, 0.05)], 40.0, (0.0, 3.0)) != [real]
