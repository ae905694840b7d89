"""What a model folder contains, and what saving refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from glassformer.checkpoints import FAMILIES, family_of, load_model, save_model
from glassformer.errors import CheckpointError
from glassformer.models import PRESETS, Decoder, ModelConfig, preset
from glassformer.tokenizers import train_tokenizer

Build = Callable[..., Decoder]
QWEN3 = {"d_head": 4, "d_value": 4}

FAMILY_OF_PRESET = {
    "modern": "qwen3",
    "tiny": "qwen3",
    "small": "qwen3",
    "fastest": "glassformer",
    "gpt2": "gpt2",
    "llama": "llama",
    "vaswani-decoder": "glassformer",
}


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
