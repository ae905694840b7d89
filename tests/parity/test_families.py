"""What we write, transformers opens; what transformers writes, we open: the same logits and the same text either way."""

# B batch, T tokens, V vocabulary

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glassformer.checkpoints import FAMILIES, family_of, load_model, save_model
from glassformer.models import Decoder, preset
from glassformer.tokenizers import train_tokenizer

transformers = pytest.importorskip("transformers", reason="parity is with transformers")
transformers.utils.logging.disable_progress_bar()

TINY = {
    "vocab_size": 23,
    "max_len": 64,
    "d_model": 16,
    "n_layers": 2,
    "n_heads": 4,
    "d_head": 4,
    "d_value": 4,
    "d_ff": 28,
}
LINEAR = {"kind": "linear", "factor": 2.0}
LLAMA3 = {"kind": "llama3", "factor": 8.0, "low": 1.0, "high": 4.0, "original_max_len": 32}

OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "modern": ("qwen3", {}),
    "modern, grouped and tied": ("qwen3", {"n_kv_heads": 2, "tied": True}),
    "modern, one key head, own width": ("qwen3", {"n_kv_heads": 1, "d_head": 6, "d_value": 6}),
    "modern, biased, another base": ("qwen3", {"attention_bias": True, "rotary_base": 5e5, "norm_eps": 1e-5}),
    "modern, window": ("qwen3", {"window": 8}),
    "modern, linear": ("qwen3", {"rotary_scaling": LINEAR}),
    "llama": ("llama", preset("llama") | {"n_kv_heads": 2}),
    "llama, biased, tied, geglu": (
        "llama",
        preset("llama") | {"attention_bias": True, "mlp_bias": True, "tied": True, "mlp": "geglu"},
    ),
    "llama, linear, geglu_tanh": ("llama", preset("llama") | {"rotary_scaling": LINEAR, "mlp": "geglu_tanh"}),
    "llama, llama3, reglu2": ("llama", preset("llama") | {"rotary_scaling": LLAMA3, "mlp": "reglu2"}),
    "gpt2": ("gpt2", preset("gpt2")),
    "gpt2, untied, gelu": ("gpt2", preset("gpt2") | {"tied": False, "mlp": "gelu"}),
    "gpt2, unscaled, relu": ("gpt2", preset("gpt2") | {"attention_scale": 1.0, "mlp": "relu"}),
    "gpt2, silu": ("gpt2", preset("gpt2") | {"mlp": "silu"}),
    "gpt2, relu2": ("gpt2", preset("gpt2") | {"mlp": "relu2"}),
}

SIZES = {
    "vocab_size": 23,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 28,
    "max_position_embeddings": 64,
}
GPT2_SIZES = {"vocab_size": 23, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64}
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}

THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("Qwen3Config", SIZES | {"head_dim": 4}),
    "qwen3, tied, wide heads": ("Qwen3Config", SIZES | {"head_dim": 6, "tie_word_embeddings": True}),
    "qwen3, window": (
        "Qwen3Config",
        SIZES | {"head_dim": 4, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0},
    ),
    "llama": ("LlamaConfig", SIZES),
    "llama, biases": ("LlamaConfig", SIZES | {"attention_bias": True, "mlp_bias": True}),
    "llama, older words for a law": (
        "LlamaConfig",
        SIZES | {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}},
    ),
    "llama, llama3": (
        "LlamaConfig",
        SIZES
        | {
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
    ),
    "gpt2": ("GPT2Config", GPT2_SIZES),
    "gpt2, untied, wide": ("GPT2Config", GPT2_SIZES | {"tie_word_embeddings": False, "n_inner": 40}),
    "gpt2, relu, other rates": ("GPT2Config", GPT2_SIZES | {"activation_function": "relu", "resid_pdrop": 0.2}),
}

Build = Callable[..., Decoder]


def test_every_public_family_is_held_against_transformers() -> None:
    public = {name for name, family in FAMILIES.items() if family.rules is not None}
    assert {family for family, _ in OURS.values()} == public


@pytest.mark.parametrize("name", OURS)
def test_transformers_opens_what_we_write(name: str, random_model: Build, tmp_path: Path) -> None:
    family, fields = OURS[name]
    model = random_model(**{**fields, **TINY, **{key: fields[key] for key in ("d_head", "d_value") if key in fields}})
    assert family_of(model.config).model_type == family
    save_model(tmp_path / "model", model)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values()), report
    assert theirs.config.model_type == family
    assert theirs.dtype == torch.float32
    compare_logits(model, theirs)
    compare_text(model, theirs)


@pytest.mark.parametrize("name", THEIRS)
def test_we_open_what_transformers_writes(name: str, tmp_path: Path) -> None:
    kind, fields = THEIRS[name]
    theirs = randomised(getattr(transformers, kind)(**fields, **NO_TOKENS))
    theirs.save_pretrained(tmp_path)
    compare_logits(load_model(tmp_path).model, theirs)


def test_we_open_weights_in_several_files(tmp_path: Path) -> None:
    theirs = randomised(transformers.LlamaConfig(**SIZES, **NO_TOKENS))
    theirs.save_pretrained(tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    compare_logits(load_model(tmp_path).model, theirs)


def test_we_open_a_stack_that_was_saved_without_its_head(tmp_path: Path) -> None:
    theirs = randomised(transformers.GPT2Config(**GPT2_SIZES, **NO_TOKENS))
    theirs.transformer.save_pretrained(tmp_path)
    compare_logits(load_model(tmp_path).model, theirs)


def test_transformers_takes_the_tokenizer_and_the_defaults_for_generating(random_model: Build, tmp_path: Path) -> None:
    tokenizer = train_tokenizer("characters", ["to be or not to be"])
    save_model(
        tmp_path / "model", random_model(**TINY), tokenizer, generation={"max_new_tokens": 7, "do_sample": False}
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert reader("to be").input_ids == tokenizer.encode("to be")
    settings = theirs.generation_config
    assert (settings.eos_token_id, settings.pad_token_id) == (tokenizer.eos_id, tokenizer.pad_id)
    assert (reader.eos_token_id, reader.pad_token_id) == (tokenizer.eos_id, tokenizer.pad_id)
    assert settings.max_new_tokens == 7
    out = theirs.generate(**reader("to be", return_tensors="pt"))
    assert out.shape[1] <= 5 + 7


def compare_logits(ours: Decoder, theirs: Any) -> None:
    """The same to 1e-5, for three rows of random tokens."""
    ids = torch.randint(23, (3, 13))
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-5, rtol=1e-5)


def compare_text(ours: Decoder, theirs: Any) -> None:
    """The same 50 tokens, with and without a cache on either side."""
    ids = torch.randint(23, (3, 13))
    with torch.inference_mode():
        expected = generated(theirs, ids, use_cache=True)
        assert torch.equal(generated(theirs, ids, use_cache=False), expected)
        assert torch.equal(recomputed(ours, ids), expected)
        assert torch.equal(cached(ours, ids), expected)


def generated(theirs: Any, ids: Tensor, *, use_cache: bool) -> Tensor:
    """What transformers adds to each row. B T to B T+50."""
    return theirs.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=50, do_sample=False, use_cache=use_cache
    )


def recomputed(ours: Decoder, ids: Tensor) -> Tensor:
    """The likeliest token, fifty times, everything computed anew. B T to B T+50."""
    for _ in range(50):
        ids = torch.cat((ids, ours(ids)[:, -1:].argmax(-1)), dim=1)
    return ids


def cached(ours: Decoder, ids: Tensor) -> Tensor:
    """The likeliest token, fifty times, the past kept in a cache. B T to B T+50."""
    cache = ours.new_cache(ids.shape[0])
    new = ids
    for _ in range(50):
        new = ours(new, cache=cache)[:, -1:].argmax(-1)
        ids = torch.cat((ids, new), dim=1)
    return ids


def randomised(config: Any) -> Any:
    """A model of transformers in which no parameter is zero or one."""
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += torch.randn(weight.shape) * (0.3 if weight.dim() == 1 else weight.shape[-1] ** -0.5)
    return model
