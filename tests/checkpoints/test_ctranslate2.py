"""CTranslate2's model.bin: the same weights as our own folder holds, and every way in which such a file can be wrong."""

from __future__ import annotations

import random
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from glassformer.checkpoints import save_model
from glassformer.checkpoints.ctranslate2 import is_ctranslate2, load_ctranslate2
from glassformer.checkpoints.open import open_model
from glassformer.checkpoints.weights import parameters
from glassformer.errors import CheckpointError, GlassformerError
from glassformer.models import EncoderDecoder
from whispers import ModelBin, Variable, model_bin, random_whisper, tokenizer, write_ctranslate2

# How far off a number is at most, of the largest in its matrix, which may be that of three maps side by side.
NEAR = {"float32": 0.0, "float16": 1e-3, "int8": 0.5 / 127, "int16": 2 / 2**10}


@pytest.mark.parametrize("kind", NEAR)
def test_a_folder_opens_as_the_model_it_was_made_of(kind: str, tmp_path: Path) -> None:
    model = random_whisper()
    loaded = open_model(write_ctranslate2(tmp_path / "model", model, kind))
    assert loaded.model.config == model.config.updated({"encoder": loaded.model.config.encoder})
    assert (loaded.family, loaded.notes) == ("whisper", ())
    found = parameters(loaded.model)
    assert next(iter(found.values())).dtype is (torch.float16 if kind == "float16" else torch.float32)
    for name, value in parameters(model).items():
        most = value.abs().max()
        torch.testing.assert_close(found[name].float(), value, atol=float(NEAR[kind] * most) + 1e-9, rtol=1e-6)
    assert loaded.generation["suppress_tokens"] == [33]
    assert loaded.generation["begin_suppress_tokens"] == [32]
    assert loaded.features is not None
    assert loaded.features.n_mels == 8
    assert loaded.tokenizer is not None
    assert loaded.generation["eos_token_id"] == tokenizer().eos_id


def test_the_number_type_may_be_chosen(tmp_path: Path) -> None:
    folder = write_ctranslate2(tmp_path / "model", random_whisper(), "float16")
    assert next(open_model(folder, dtype=torch.float32).model.parameters()).dtype is torch.float32


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    open_model(write_ctranslate2(tmp_path / "model", random_whisper()), progress=lambda *some: told.append(some))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] > 0


def test_it_is_saved_as_whisper_and_opens_again(tmp_path: Path) -> None:
    loaded = open_model(write_ctranslate2(tmp_path / "model", random_whisper()))
    save_model(
        tmp_path / "saved", loaded.model, loaded.tokenizer, generation=loaded.generation, features=loaded.features
    )
    again = open_model(tmp_path / "saved")
    assert again.family == "whisper"
    assert again.features == loaded.features
    assert {**loaded.generation, **again.generation} == again.generation
    for name, value in parameters(loaded.model).items():
        assert torch.equal(parameters(again.model)[name], value)


def test_a_matrix_of_scores_of_its_own_is_read_too(tmp_path: Path) -> None:
    model = random_whisper(tied=False)
    made = model_bin(model)
    made.aliases = []
    made.variables.append(Variable("decoder/projection/weight", model.head.linear.weight.numpy()))
    (tmp_path / "model.bin").write_bytes(made.packed())
    loaded = load_ctranslate2(tmp_path)
    assert isinstance(loaded.model, EncoderDecoder)
    assert not loaded.model.config.tied
    assert torch.equal(loaded.model.head.linear.weight, model.head.linear.weight)


def twice(values: np.ndarray) -> np.ndarray:
    return np.concatenate((values, values))


def moved_keys(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[len(values) // 3] = 1.0
    return values


def without(name: str) -> Callable[[ModelBin], None]:
    def change(made: ModelBin) -> None:
        made.variables = [variable for variable in made.variables if variable.name != name]

    return change


def with_variable(name: str, values: np.ndarray, kind: int = 0) -> Callable[[ModelBin], None]:
    return lambda made: made.variables.append(Variable(name, values, kind))


WRONG: dict[str, tuple[Callable[[ModelBin], object], str]] = {
    "another version": (lambda made: setattr(made, "version", 5), r"begins with version 5, expected 6"),
    "another model": (lambda made: setattr(made, "spec", "TransformerSpec"), "holds a TransformerSpec"),
    "another revision": (lambda made: setattr(made, "revision", 9), r"WhisperSpec \(revision 9\)"),
    "lacking": (without("decoder/layer_1/ffn/linear_1/bias"), r"lacks decoder/layer_1/ffn/linear_1/bias"),
    "lacking heads": (without("decoder/num_heads"), "decoder/num_heads is missing"),
    "unexpected": (with_variable("decoder/more", np.zeros((2, 2), np.float32)), "unexpected decoder/more"),
    "twice": (with_variable("decoder/alibi", np.zeros((), np.int8), 1), "has decoder/alibi twice"),
    "misshapen": (lambda made: made.put("encoder/layer_norm/beta", twice), r"encoder/layer_norm/beta is 32, .* 16"),
    "odd heads": (lambda made: made.put("decoder/num_heads", lambda x: x + 3), "n_heads=5"),
    "no heads": (lambda made: made.put("decoder/num_heads", lambda x: x * 0), "n_heads"),
    "relu": (lambda made: made.put("decoder/activation", lambda x: x * 0), "decoder/activation is 0, expected 3"),
    "moved keys": (lambda made: made.put("decoder/layer_0/self_attention/linear_0/bias", moved_keys), "moves the keys"),
    "an alias of nothing": (lambda made: made.aliases.append(("x", "y")), "x is a second name for y"),
    "an alias of itself": (lambda made: made.aliases.append(("decoder/alibi", "decoder/alibi")), "second name"),
    "a layer left out": (
        with_variable("decoder/layer_7/ffn/linear_0/bias", np.zeros(3, np.float32)),
        "layers of the decoder, not numbered",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str, tmp_path: Path) -> None:
    change, complaint = WRONG[name]
    made = model_bin(random_whisper())
    change(made)
    (tmp_path / "model.bin").write_bytes(made.packed())
    with pytest.raises(CheckpointError, match=complaint):
        load_ctranslate2(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (without("decoder/embeddings/weight_scale"), "is quantised and has no"),
        (lambda made: made.put("decoder/embeddings/weight_scale", lambda x: x * 0), "cannot be divided by"),
        (lambda made: made.put("decoder/embeddings/weight_scale", lambda x: x[:-1]), "is quantised and has no"),
    ],
)
def test_scales_must_fit(change: Callable[[ModelBin], object], complaint: str, tmp_path: Path) -> None:
    made = model_bin(random_whisper(), "int8")
    change(made)
    (tmp_path / "model.bin").write_bytes(made.packed())
    with pytest.raises(CheckpointError, match=complaint):
        load_ctranslate2(tmp_path)


def test_numbers_that_mean_nothing_here_are_told(tmp_path: Path) -> None:
    made = model_bin(random_whisper())
    made.variables.append(Variable("decoder/sliding_window", np.asarray(5, "<i4"), 3))
    made.variables.append(Variable("decoder/multi_query_attention", np.asarray(0, "i1"), 1))
    (tmp_path / "model.bin").write_bytes(made.packed())
    (note,) = load_ctranslate2(tmp_path).notes
    assert "decoder/sliding_window" in note
    assert "multi_query" not in note


def test_a_folder_of_another_kind_is_none_of_these(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"PK\3\4 something else")
    assert not is_ctranslate2(tmp_path)
    assert not is_ctranslate2(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_model(tmp_path)


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match="Git LFS pointer"):
        load_ctranslate2(tmp_path)


def damaged(draw: random.Random, whole: bytes) -> bytes:
    """The file with some of its bytes changed, left out or put in, mostly where names and sizes stand."""
    content = bytearray(whole)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(max(1, len(content) - 8))
        if draw.random() < 0.7:  # near a name
            spot = content.find(b"coder/", draw.randrange(len(content)))
            at = max(0, spot + draw.randrange(-8, 60)) if spot >= 0 else at
        how = draw.randrange(6)
        if how == 0:
            content[at : at + 1] = bytes([content[at] ^ 1 << draw.randrange(8)]) if at < len(content) else b""
        elif how == 1:
            content[at : at + 4] = draw.randbytes(4)
        elif how == 2:
            content[at : at + 4] = struct.pack("<I", draw.choice((2**32 - 1, 2**31, 2**24, len(content), 0, 1, 7)))
        elif how == 3:
            del content[draw.randrange(len(content)) :]
        elif how == 4:
            del content[at : at + draw.randrange(1, 40)]
        else:
            content[at:at] = draw.randbytes(draw.randrange(1, 40))
        content = content or bytearray(b"\6")
    return bytes(content)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_damaged_files_are_refused_in_one_sentence_or_opened_whole(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    wholes = [model_bin(random_whisper(), kind).packed() for kind in ("float32", "int8")]
    path = tmp_path / "model.bin"
    path.write_bytes(wholes[0])
    vectors = torch.zeros(1, 100, 8)
    load_ctranslate2(tmp_path).model(torch.zeros(1, 2, dtype=torch.long), source=vectors)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    opened = refused = 0
    for _ in range(500):
        path.write_bytes(damaged(draw, draw.choice(wholes)))
        try:
            model = load_ctranslate2(tmp_path).model
            model(torch.zeros(1, 2, dtype=torch.long), source=vectors)
            opened += 1
        except GlassformerError as error:
            refused += 1
            text = str(error)
            assert "\n" not in text
            assert len(text) < 2000
    assert refused > 200
    assert opened > 5  # some only change a number
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # kilobytes
