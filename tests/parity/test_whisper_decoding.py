"""Whisper's decoding beside CTranslate2's and that of transformers: the same tokens, the same probabilities."""

# F bands, T frames

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from glassformer.checkpoints import save_model
from glassformer.checkpoints.open import open_model
from glassformer.checkpoints.preprocessor import read_features
from glassformer.errors import ConfigError
from glassformer.features import FeatureConfig, extract
from glassformer.generate.whisper.decoding import Decoded, decode_window, hear_language
from glassformer.generate.whisper.settings import WhisperSettings
from glassformer.generate.whisper.tokens import Tokens
from whispers import FEATURES, TIMES, generation, noise, random_whisper, tokenizer, vocab_size, write_ctranslate2

ONE_TRY = WhisperSettings(temperature_increment_on_fallback=None)
SUPPRESSED = {"suppress_tokens": [33, 101], "begin_suppress_tokens": [32, 257]}


def frames(seed: int) -> Tensor:
    """The frames of a second of noise: T F."""
    return extract(torch.from_numpy(noise(1.0, seed)), FEATURES)


def ours(model: Any, vectors: Tensor, prompt: list[int], settings: WhisperSettings = ONE_TRY) -> Decoded:
    with torch.inference_mode():
        return decode_window(model, model.read(vectors[None]), told(), settings, prompt)


def told() -> Tokens:
    return Tokens.of(tokenizer(), generation(**SUPPRESSED), vocab_size())


def runtime(folder: Path) -> Any:
    """A folder in CTranslate2's layout, as its own runtime opens it."""
    ctranslate2 = pytest.importorskip("ctranslate2", reason="parity is with CTranslate2")
    special = {id: text for text, id in tokenizer().special_tokens.items()}
    first = vocab_size() - TIMES
    words = [
        f"<|{0.02 * (id - first):.2f}|>" if id >= first else special.get(id, f"byte {id}") for id in range(vocab_size())
    ]
    (folder / "vocabulary.json").write_text(json.dumps(words))
    values = json.loads((folder / "config.json").read_text())
    values |= {"suppress_ids": SUPPRESSED["suppress_tokens"], "suppress_ids_begin": SUPPRESSED["begin_suppress_tokens"]}
    steering = [told().start, *told().tasks.values(), told().previous, told().no_speech]
    values["suppress_ids"] = sorted(
        {*values["suppress_ids"], *steering, told().tokenizer.special_tokens["<|startoflm|>"]}
    )
    (folder / "config.json").write_text(json.dumps(values))
    return ctranslate2.models.Whisper(str(folder), compute_type="float32", intra_threads=1)


def view(vectors: Tensor) -> Any:
    import ctranslate2

    return ctranslate2.StorageView.from_array(np.ascontiguousarray(vectors.T.numpy()[None]))


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_greedy_tokens_are_those_of_ctranslate2(kind: str, tmp_path: Path) -> None:
    for seed in range(4):
        folder = write_ctranslate2(tmp_path / str(seed), random_whisper(seed), kind)
        theirs, model = runtime(folder), open_model(folder, dtype=torch.float32).model
        for times in (True, False):
            prompt = told().beginning("de", "translate", times=times)
            vectors = frames(seed)
            found = ours(model, vectors, prompt)
            expected = theirs.generate(
                view(vectors),
                [prompt],
                beam_size=1,
                max_length=40,  # a text ends at half of it, as here
                max_initial_timestamp_index=50,
                return_scores=True,
                return_no_speech_prob=True,
            )[0]
            assert list(found.ids) == expected.sequences_ids[0], (seed, times)
            assert found.no_speech_prob == pytest.approx(expected.no_speech_prob, abs=1e-5)


@pytest.mark.parametrize("times", [True, False])
def test_greedy_tokens_are_those_of_the_rules_of_transformers(times: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="parity is with transformers")
    processors = pytest.importorskip("transformers.generation.logits_process")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for seed in range(3):
        folder = tmp_path / str(seed)
        said = {
            "decoder_start_token_id": told().start,
            "eos_token_id": told().end,
            "lang_to_id": {f"<|{code}|>": id for code, id in told().languages.items()},
            "no_timestamps_token_id": told().no_times,
            "return_timestamps": times,
        }
        save_model(folder, random_whisper(seed), generation=generation(**said, **SUPPRESSED), features=FEATURES)
        theirs = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
        vectors, prompt = frames(seed), told().beginning("de", "transcribe", times=times)
        rules = [
            processors.SuppressTokensLogitsProcessor([*told().never, told().no_times]),
            processors.SuppressTokensAtBeginLogitsProcessor(SUPPRESSED["begin_suppress_tokens"], len(prompt)),
        ]
        if times:
            rules.append(processors.WhisperTimeStampLogitsProcessor(theirs.generation_config, len(prompt)))
        row = torch.tensor([prompt])
        with torch.inference_mode():
            for _ in range(20):
                scores = theirs(input_features=vectors.T[None], decoder_input_ids=row).logits[:, -1]
                for rule in rules:
                    scores = rule(row, scores)
                row = torch.cat((row, scores.argmax(-1, keepdim=True)), 1)
        expected = row[0, len(prompt) :].tolist()
        expected = expected[: expected.index(told().end)] if told().end in expected else expected
        model = open_model(folder).model
        assert list(ours(model, vectors, prompt).ids) == expected
        code, _ = hear_language(model, model.read(vectors[None]), told())
        assert told().languages[code] == int(theirs.detect_language(input_features=vectors.T[None])[0])


MULTILINGUAL = {51_865: 99, 51_866: 100}  # tokens, languages


@pytest.mark.parametrize("size", MULTILINGUAL)
def test_every_language_and_task_begins_with_the_tokens_of_transformers(size: int) -> None:
    """The special tokens of a published vocabulary, in their order; plain tokens are stood in for by numbers."""
    theirs = pytest.importorskip(
        "transformers.models.whisper.tokenization_whisper", reason="parity is with transformers"
    )
    codes = list(theirs.LANGUAGES)[: MULTILINGUAL[size]]
    known = theirs.WhisperTokenizer(vocab={str(id): id for id in range(50_257)}, merges=[])
    steering = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
    special = [f"<|{name}|>" for name in ("startoftranscript", *codes, *steering)]
    known.add_special_tokens({"additional_special_tokens": special})
    assert len(known) + 1501 == size  # with the times
    ids = {text: known.convert_tokens_to_ids(text) for text in ["<|endoftext|>", *special]}
    tokens = Tokens.of(cast("Any", SimpleNamespace(special_tokens=ids)), {}, size)
    assert (tokens.start, tokens.end, tokens.first_time) == (50_258, 50_257, size - 1501)
    assert list(tokens.languages) == codes
    for name, code in theirs.TO_LANGUAGE_CODE.items():
        if code not in codes:
            with pytest.raises(ConfigError, match="is not known to this model"):
                tokens.code(name)
            continue
        for task in theirs.TASK_IDS:
            for times in (True, False):
                known.set_prefix_tokens(language=name, task=task, predict_timestamps=times)
                for asked in (name, name.title(), code):
                    assert tokens.beginning(asked, task, times=times) == known.prefix_tokens
    for text in special[1 + len(codes) :]:
        assert text == "<|notimestamps|>" or ids[text] in tokens.never


@pytest.mark.parametrize("n_mels", [80, 128])
def test_the_frames_are_those_of_transformers(n_mels: int, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="parity is with transformers")
    theirs = transformers.WhisperFeatureExtractor(feature_size=n_mels)
    config = FeatureConfig(kind="whisper", n_mels=n_mels)
    for seed, seconds in enumerate((0.3, 7.0, 30.0)):
        wave = noise(seconds, seed)
        expected = theirs(wave, sampling_rate=16_000, return_tensors="np").input_features[0]
        np.testing.assert_allclose(extract(torch.from_numpy(wave), config).T.numpy(), expected, atol=1e-4)
    theirs.save_pretrained(tmp_path)
    assert read_features(tmp_path) == config
