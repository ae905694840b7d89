"""Whisper: what either side writes the other opens, and both say the same of a sound."""

# B batch, S frames, T target tokens, F bands

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glassformer.checkpoints import family_of, load_model, save_model
from glassformer.errors import CheckpointError
from glassformer.models import ModelConfig
from whispers import LIKE_WHISPER

transformers = pytest.importorskip("transformers", reason="parity is with transformers")
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "num_mel_bins": 6,
    "d_model": 16,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_ffn_dim": 28,
    "decoder_ffn_dim": 24,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "max_source_positions": 20,
    "max_target_positions": 18,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "decoder_start_token_id": 2,
    "begin_suppress_tokens": [5, 1],
    "suppress_tokens": [7, 8],
}
THEIRS: dict[str, dict[str, Any]] = {
    "usual": SIZES,
    "sides alike": SIZES | {"encoder_layers": 2, "encoder_ffn_dim": 24, "encoder_attention_heads": 4},
    "lengths alike too": SIZES
    | {"encoder_layers": 2, "encoder_ffn_dim": 24, "encoder_attention_heads": 4, "max_source_positions": 18},
    "relu, untied": SIZES | {"activation_function": "relu", "tie_word_embeddings": False},
}


def peer(fields: dict[str, Any]) -> Any:
    """A model of transformers in which no parameter is zero or one."""
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**fields)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += torch.randn(weight.shape) * (0.3 if weight.dim() == 1 else weight[0].numel() ** -0.5)
    return model


def batch(fields: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Frames (B S F) and targets (B T)."""
    torch.manual_seed(1)
    frames = torch.randn(3, 2 * fields["max_source_positions"], fields["num_mel_bins"])
    return frames, torch.randint(3, 40, (3, 17))


def said(theirs: Any, fields: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Logits (B T V), and the encoder's states."""
    frames, targets = batch(fields)
    with torch.inference_mode():
        out = theirs(input_features=frames.mT, decoder_input_ids=targets)
    return out.logits, out.encoder_last_hidden_state


@pytest.mark.parametrize("name", THEIRS)
def test_folders_open_on_both_sides(name: str, tmp_path: Path) -> None:
    fields = THEIRS[name]
    theirs = peer(fields)
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = load_model(tmp_path / "theirs")
    assert loaded.notes == ()
    assert loaded.family == family_of(loaded.model.config).model_type == "whisper"
    frames, targets = batch(fields)
    logits, states = said(theirs, fields)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model.read(frames).states, states, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(loaded.model(targets, source=frames), logits, atol=1e-5, rtol=1e-5)
    save_model(tmp_path / "ours", loaded.model, generation=loaded.generation)
    again, report = transformers.WhisperForConditionalGeneration.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report.values()), report
    torch.testing.assert_close(said(again, fields)[0], logits, atol=1e-5, rtol=1e-5)
    assert load_model(tmp_path / "ours").model.config == loaded.model.config
    for key in ("begin_suppress_tokens", "suppress_tokens"):
        assert getattr(again.generation_config, key) == fields[key]


def test_a_folder_of_theirs_that_stores_the_tied_head_opens_too(tmp_path: Path) -> None:
    peer(SIZES).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["proj_out.weight"] = weights["model.decoder.embed_tokens.weight"].clone()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert load_model(tmp_path).notes == ()
    weights["proj_out.weight"][0, 0] += 1
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"proj_out.weight differs from .*embed_tokens"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"scale_embedding": True}, "scale_embedding=True cannot be expressed here"),
        ({"encoder_attention_heads": 3}, "d_model=16 cannot be expressed here, expected a multiple of enc"),
        ({"num_mel_bins": 0}, "vectors.size"),
        ({"activation_function": "mish"}, "activation_function='mish'"),
    ],
)
def test_what_cannot_be_expressed_is_named(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    peer(SIZES).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=complaint):
        load_model(tmp_path)


def test_only_what_whisper_can_say_is_written_as_whisper() -> None:
    common: dict[str, Any] = {**LIKE_WHISPER, "vectors": {"size": 6, "strides": (1, 2)}, "vocab_size": 40}
    assert family_of(ModelConfig.parse(common)).model_type == "whisper"
    for other in (
        {"attention_key_bias": True},
        {"ctc_blank": 3},
        {"vectors": {"size": 6, "strides": (2, 2)}},
        {"vectors": {"size": 6, "strides": (1, 2), "activation": "relu"}},
        {"positions": "rotary"},
    ):
        assert family_of(ModelConfig.parse({**common, **other})).model_type == "glassformer"
