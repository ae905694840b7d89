"""What a model folder contains, and what saving refuses."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from glassformer.checkpoints import FAMILIES, family_of, load_model, save_model
from glassformer.errors import CheckpointError
from glassformer.models import PRESETS, Model, ModelConfig, preset
from glassformer.tokenizers import Tokenizer, train_tokenizer
from shapes import KINDS

Build = Callable[..., Model]
QWEN3 = {"d_head": 4, "d_value": 4}

FAMILY_OF_PRESET = {
    "modern": "qwen3",
    "tiny": "qwen3",
    "small": "qwen3",
    "fastest": "glassformer",
    "gpt2": "gpt2",
    "llama": "llama",
    "vaswani-decoder": "glassformer",
    "vaswani-base": "glassformer",
    "small-seq2seq": "glassformer",
    "bert-tiny": "glassformer",
    "hand-sized": "glassformer",
    "small-speech": "qwen3",  # what it adds to that, an encoder of vectors, comes with the task
}
ARCHITECTURES = {
    "decoder": "ForCausalLM",
    "encoder": "ForMaskedLM",
    "labels": "ForSequenceClassification",
    "tags": "ForTokenClassification",
    "pooled": "Model",
    "encoder-decoder": "ForConditionalGeneration",
}
VERBS = {
    "decoder": ("generate", "text-generation"),
    "encoder": ("fill", "fill-mask"),
    "labels": ("classify", "text-classification"),
    "tags": ("classify", "token-classification"),
    "pooled": ("embed", "sentence-similarity"),
    "encoder-decoder": ("translate", "translation"),
}


def letters(text: str, *special: str) -> Tokenizer:
    """A tokenizer of the letters of a text."""
    return train_tokenizer("characters", [text], special_tokens=special)


def test_every_preset_has_the_family_it_is_known_for() -> None:
    found = {name: family_of(ModelConfig.parse({"vocab_size": 23, **preset(name)})).model_type for name in PRESETS}
    assert found == FAMILY_OF_PRESET


def test_the_nearest_family_names_what_it_has_no_words_for() -> None:
    config = ModelConfig.parse({"vocab_size": 23, "bigram": 64, "norm_gain": False})
    assert FAMILIES["qwen3"].why_not(config) == ("norm_gain=False", "bigram=64")


def test_a_folder_has_the_files_that_other_tools_look_for(random_model: Build, tmp_path: Path) -> None:
    tokenizer = train_tokenizer("characters", ["to be or not to be"])
    save_model(tmp_path / "model", random_model(**QWEN3), tokenizer, generation={"temperature": 0.8})
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    ids = {"bos_token_id": tokenizer.eos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    assert ids.items() <= config.items()
    assert (config["model_type"], config["architectures"], config["dtype"]) == (
        "qwen3",
        ["Qwen3ForCausalLM"],
        "float32",
    )
    loaded = load_model(tmp_path / "model")
    assert loaded.generation == {**ids, "temperature": 0.8}
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.encode("to be") == tokenizer.encode("to be")


def test_what_is_to_be_remembered_is_in_the_metadata_as_json(random_model: Build, tmp_path: Path) -> None:
    model = random_model()
    save_model(tmp_path / "model", model, extra={"step": "1200", "data_sha256": "9f2c"})
    with safe_open(tmp_path / "model" / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert json.loads(metadata["glassformer.step"]) == "1200"
    assert ModelConfig.parse(json.loads(metadata["glassformer.config"])) == model.config
    loaded = load_model(tmp_path / "model")
    assert (loaded.metadata["step"], loaded.metadata["data_sha256"]) == ("1200", "9f2c")


@pytest.mark.parametrize(("fields", "said"), [({}, "No public family"), (QWEN3, "Its shape is that of Qwen3")])
def test_the_card_tells_whose_shape_it_is_and_what_its_maker_says(
    fields: dict[str, Any], said: str, random_model: Build, tmp_path: Path
) -> None:
    save_model(tmp_path / "poet", random_model(**fields), card="## Results\n\nLoss 1.47 after 600 s.")
    card = (tmp_path / "poet" / "README.md").read_text()
    assert said in card
    assert "# poet" in card
    assert "Loss 1.47 after 600 s." in card


def test_a_tokenizer_larger_than_the_model_is_refused(random_model: Build, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the tokenizer has 258 tokens but the model knows only 23"):
        save_model(tmp_path / "model", random_model(), train_tokenizer("bytes", ["to be"]))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["thesis.tex", "results.json"])
def test_a_folder_with_other_files_is_not_replaced(name: str, random_model: Build, tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_model())
    (tmp_path / "model" / name).write_text("years of work")
    with pytest.raises(CheckpointError, match=f"holds {name}, which saving a model here would delete"):
        save_model(tmp_path / "model", random_model())
    assert (tmp_path / "model" / name).read_text() == "years of work"


def test_a_file_is_not_replaced_by_a_folder(random_model: Build, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("notes")
    with pytest.raises(CheckpointError, match="is a file"):
        save_model(tmp_path / "model", random_model())


def test_the_current_folder_can_be_named_by_a_dot(
    random_model: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "poet").mkdir()
    monkeypatch.chdir(tmp_path / "poet")
    save_model(Path("."), random_model())
    assert load_model(tmp_path / "poet").family == "glassformer"


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_config_json_says_what_kind_of_model_it_is(kind: str, random_model: Build, tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_model(**KINDS[kind]))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["architectures"] == [f"Glassformer{ARCHITECTURES[kind]}"]


@pytest.mark.parametrize("kind", VERBS)
def test_the_card_shows_how_a_model_of_its_kind_is_used(kind: str, random_model: Build, tmp_path: Path) -> None:
    verb, tag = VERBS[kind]
    save_model(tmp_path / "model", random_model(**KINDS[kind]), letters("to be"))
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"glassformer {verb} . " in card
    assert f"pipeline_tag: {tag}\n" in card
    assert ("No public family" in card) == (kind == "decoder")
    said = {"decoder": "A decoder-only", "encoder-decoder": "An encoder-decoder"}.get(kind, "An encoder-only")
    assert f"{said} transformer of " in card
    assert ("`good`, `bad`, `odd`" in card) == (kind in ("labels", "tags"))


def test_the_card_of_two_sides_tells_the_sizes_of_both(random_model: Build, tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_model(**KINDS["another encoder"]))
    card = (tmp_path / "model" / "README.md").read_text()
    assert (
        "an encoder of 3 layers of width 20, 2 heads of width 8, gelu of width 26, layernorm, positions learned" in card
    )
    assert (
        "a decoder of 2 layers of width 16, 4 heads of width 6, swiglu of width 28, rmsnorm, positions rotary" in card
    )
    assert "a vocabulary of 19 and a context of 40 tokens" in card
    assert "one embedding table for both" not in card


def test_the_start_token_begins_a_text_where_there_is_one(random_model: Build, tmp_path: Path) -> None:
    for special, shape in itertools.product(((), ("<|start|>",)), ("decoder", "encoder-decoder")):
        tokenizer = letters("to be", *special)
        save_model(tmp_path / "model", random_model(**KINDS[shape]), tokenizer)
        start = tokenizer.special_tokens.get("<|start|>", tokenizer.eos_id)
        ids = {"bos_token_id": start, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
        if shape == "encoder-decoder":
            ids["decoder_start_token_id"] = start
        assert load_model(tmp_path / "model").generation == ids
        for name in ("config.json", "generation_config.json"):
            written = json.loads((tmp_path / "model" / name).read_text())
            assert {key: value for key, value in written.items() if key.endswith("_token_id")} == ids


def test_the_tokenizer_of_the_sources_lies_in_a_folder_of_its_own(random_model: Build, tmp_path: Path) -> None:
    target, source = letters("ser o no ser", "<|start|>"), letters("to be or not")
    model = random_model(**KINDS["two vocabularies"])
    save_model(tmp_path / "model", model, target, source_tokenizer=source)
    assert sorted(path.name for path in (tmp_path / "model" / "source").iterdir()) == [
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for _ in range(2):  # the second time over a folder that has one
        loaded = load_model(tmp_path / "model")
        assert loaded.tokenizer is not None
        assert loaded.source_tokenizer is not None
        assert loaded.tokenizer.encode("ser") == target.encode("ser")
        assert loaded.source_tokenizer.encode("to be") == source.encode("to be")
        save_model(tmp_path / "model", loaded.model, loaded.tokenizer, source_tokenizer=loaded.source_tokenizer)
    save_model(tmp_path / "model", model, target)
    assert load_model(tmp_path / "model").source_tokenizer is None
    assert not (tmp_path / "model" / "source").exists()


LONG = "abcdefghijklmnopqrs"  # 19 letters, to which three special tokens come


@pytest.mark.parametrize(
    ("target", "source", "said"),
    [
        (LONG + "tuvw", None, "the tokenizer has 26 tokens but the model knows only 23"),
        (LONG, None, "the tokenizer has 22 tokens but the encoder knows only 19"),
        (LONG, LONG, "the source tokenizer has 22 tokens but the encoder knows only 19"),
        (LONG + "tuvw", "abc", "the tokenizer has 26 tokens but the model knows only 23"),
    ],
)
def test_each_tokenizer_is_held_against_its_own_side(
    target: str, source: str | None, said: str, random_model: Build, tmp_path: Path
) -> None:
    model = random_model(**KINDS["two vocabularies"])
    with pytest.raises(CheckpointError, match=said):
        save_model(tmp_path / "model", model, letters(target), source_tokenizer=letters(source) if source else None)
    assert not (tmp_path / "model").exists()
    save_model(tmp_path / "model", model, letters(LONG), source_tokenizer=letters("abc"))


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_only_an_encoder_decoder_has_sources(kind: str, random_model: Build, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"belongs to an encoder-decoder, found shape={kind!r}"):
        save_model(tmp_path / "model", random_model(**KINDS[kind]), source_tokenizer=letters("abc"))


@pytest.mark.parametrize("place", ["source/thesis.tex", "sources/tokenizer.json"])
def test_folders_with_other_things_are_not_deleted(place: str, random_model: Build, tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_model())
    (tmp_path / "model" / place).parent.mkdir()
    (tmp_path / "model" / place).write_text("years of work")
    with pytest.raises(CheckpointError, match=f"holds {place.split('/')[0]}, which saving a model here would delete"):
        save_model(tmp_path / "model", random_model())
    assert (tmp_path / "model" / place).read_text() == "years of work"
