"""Whispers in small: a tokenizer with its special tokens, a random model that reads a second at a time, one that says what it
is told, and model.bin files written byte by byte."""

from __future__ import annotations

import io
import struct
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassformer.features import FeatureConfig
from glassformer.models import EncoderDecoder, ModelConfig, build_model
from glassformer.nn.cache import Memory
from glassformer.tokenizers import Tokenizer, train_tokenizer

SPECIAL = (
    "<|startoftranscript|>",
    "<|en|>",
    "<|de|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
RATE, HOP = 16_000, 160
SECOND = {"kind": "whisper", "n_mels": 8, "chunk_seconds": 1}
FEATURES = FeatureConfig.parse(SECOND)
TIMES = 51  # 0.00 to 1.00
LIKE_WHISPER: dict[str, Any] = {
    "shape": "encoder_decoder",
    "norm": "layernorm",
    "norm_bias": True,
    "norm_eps": 1e-5,
    "qk_norm": False,
    "attention_bias": True,
    "attention_key_bias": False,
    "mlp_bias": True,
    "mlp": "gelu",
    "positions": "learned",
    "tied": True,
}
SIZES: dict[str, Any] = {
    **LIKE_WHISPER,
    "vectors": {"size": 8, "strides": (1, 2), "activation": "gelu"},
    "max_len": 40,
    "d_model": 16,
    "n_layers": 2,
    "n_heads": 2,
    "d_ff": 24,
    "encoder": {"max_len": 50, "n_layers": 1},
}


@cache
def tokenizer() -> Tokenizer:
    """Bytes, and the tokens that steer a Whisper."""
    return train_tokenizer("bytes", ["the quick brown fox"], special_tokens=SPECIAL)


def vocab_size() -> int:
    return tokenizer().vocab_size + TIMES


def random_whisper(seed: int = 0, **fields: Any) -> EncoderDecoder:
    """A model in which no parameter is zero or one, ready to be asked."""
    config = ModelConfig.parse({**SIZES, "vocab_size": vocab_size(), **fields})
    model = build_model(config, seed).eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=draw)
        weight += 0.3 * noise if weight.dim() == 1 else noise / weight[0].numel() ** 0.5
        if name.endswith("token.weight"):
            weight *= 0.5
    assert isinstance(model, EncoderDecoder)
    return model


def generation(**more: Any) -> dict[str, Any]:
    """What the folder of such a model says."""
    return {"is_multilingual": True, "max_initial_timestamp_index": 50, **more}


def id_of(text: str) -> int:
    """The id of a special token, or of a time such as ``0.40``."""
    known = tokenizer().special_tokens
    return known[text] if text in known else known["<|notimestamps|>"] + 1 + round(float(text) / 0.02)


def ids_of(*parts: str) -> list[int]:
    """Times and special tokens by name, other text byte by byte: ``ids_of("0.00", "hello", "0.50")``."""
    found: list[int] = []
    for part in parts:
        is_time = part.replace(".", "", 1).isdigit()
        found += [id_of(part)] if is_time or part in tokenizer().special_tokens else tokenizer().encode(part)
    return found


@dataclass
class Script:
    """What the scripted model says in a window: the tokens it wants, by temperature try, and how sure it is."""

    tries: Sequence[Sequence[int]]
    sure: float = 20.0  # logit of the token that is wanted, all others having 0
    silent: float = 0.0  # logit of no speech after the start


class Scripted:
    """A model that says what its script tells, window by window, whatever the sound; `asked` are the prompts it was given."""

    def __init__(self, *windows: Script, language: str = "<|en|>") -> None:
        self.windows, self.language = windows, language
        self.config = SimpleNamespace(
            vocab_size=vocab_size(),
            max_len=40,
            vectors=SimpleNamespace(strides=(1, 2)),
            source_side=lambda: SimpleNamespace(max_len=50),
        )
        self.training = False
        self.asked: list[list[int]] = []
        self.heard: list[Tensor] = []
        self.tries = 0
        self.weight = torch.zeros(1)

    def parameters(self) -> Any:
        return iter([self.weight])

    def train(self, mode: bool = True) -> Scripted:
        return self

    def eval(self) -> Scripted:
        return self

    def read(self, vectors: Tensor) -> Memory:
        self.heard.append(vectors)
        self.tries = 0
        return Memory(torch.zeros(1, 50, 1))

    def new_cache(self, rows: int, columns: int, memory: Any = None, beams: int = 1) -> Any:
        return SimpleNamespace(said=0, rows=rows, reorder=lambda rows: None)

    def hidden(self, ids: Tensor, cache: Any) -> Tensor:
        prompt = ids[0].tolist()
        start = id_of("<|startoftranscript|>")
        logits = torch.zeros(len(ids), len(prompt), vocab_size())
        if prompt[-1] == start:
            logits[:, -1, id_of(self.language)] = 5.0
            return logits
        self.asked.append(prompt)
        script = self.windows[len(self.heard) - 1]
        cache.script = list(script.tries[min(self.tries, len(script.tries) - 1)])
        cache.sure = script.sure
        self.tries += 1
        logits[:, prompt.index(start), id_of("<|nospeech|>")] = script.silent
        logits[:, -1] = self.next(cache, len(ids))
        return logits

    def head(self, states: Tensor) -> Tensor:
        return states

    def next(self, cache: Any, rows: int) -> Tensor:
        """The logits of the next token of the script."""
        wanted = cache.script[cache.said] if cache.said < len(cache.script) else tokenizer().eos_id
        cache.said += 1
        logits = torch.zeros(rows, vocab_size())
        logits[:, wanted] = cache.sure
        return logits

    def __call__(self, ids: Tensor, cache: Any) -> Tensor:
        return self.next(cache, len(ids))[:, None]


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Samples that are no silence."""
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def wav_bytes(samples: np.ndarray) -> bytes:
    """A WAV file of 16 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(RATE)
        written.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


# model.bin, written from the parameters of a model

KINDS = {"float32": (0, "<f4"), "int8": (1, "i1"), "int16": (2, "<i2"), "float16": (4, "<f2")}


@dataclass
class Variable:
    """One variable of a model.bin."""

    name: str
    values: np.ndarray
    kind: int = 0

    def packed(self) -> bytes:
        head = named(self.name) + struct.pack("<B", self.values.ndim)
        head += b"".join(struct.pack("<I", size) for size in self.values.shape)
        return head + struct.pack("<BI", self.kind, self.values.nbytes) + self.values.tobytes()


@dataclass
class ModelBin:
    """All that a model.bin consists of."""

    variables: list[Variable]
    aliases: list[tuple[str, str]] = field(default_factory=list)
    version: int = 6
    spec: str = "WhisperSpec"
    revision: int = 3

    def packed(self) -> bytes:
        parts = [struct.pack("<I", self.version), named(self.spec)]
        parts.append(struct.pack("<II", self.revision, len(self.variables)))
        parts += [variable.packed() for variable in self.variables]
        parts.append(struct.pack("<I", len(self.aliases)))
        parts += [named(alias) + named(name) for alias, name in self.aliases]
        return b"".join(parts)

    def put(self, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Change the values of one variable."""
        one = next(variable for variable in self.variables if variable.name == name)
        one.values = change(one.values)


def named(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def model_bin(model: EncoderDecoder, kind: str = "float32") -> ModelBin:
    """The variables of a model, its matrices of this number type."""
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    made = ModelBin([], [("decoder/projection/weight", "decoder/embeddings/weight")])

    def add(name: str, values: np.ndarray, *, matrix: bool = False) -> None:
        number, dtype = KINDS[kind]
        if kind in ("float32", "float16") or not matrix:
            plain = "float16" if kind == "float16" else "float32"
            made.variables.append(Variable(name, values.astype(KINDS[plain][1]), KINDS[plain][0]))
            return
        most = np.abs(values.reshape(len(values), -1)).max(1) if kind == "int8" else np.abs(values).max()
        scale = np.asarray((127.0 if kind == "int8" else 2.0**10) / most, np.float32)
        shaped = scale.reshape(-1, *[1] * (values.ndim - 1)) if scale.ndim else scale
        made.variables.append(Variable(name, np.rint(values * shaped).astype(dtype), number))
        made.variables.append(Variable(f"{name}_scale", scale, 0))

    def scalar(name: str, value: int, kind_of: str = "int8") -> None:
        number, dtype = KINDS[kind_of]
        made.variables.append(Variable(name, np.asarray(value, dtype), number))

    def linear(name: str, *modules: str) -> None:
        add(f"{name}/weight", np.concatenate([state[f"{one}.weight"] for one in modules]), matrix=True)
        biases = [state.get(f"{one}.bias", np.zeros(len(state[f"{one}.weight"]), np.float32)) for one in modules]
        add(f"{name}/bias", np.concatenate(biases))

    def norm(name: str, module: str) -> None:
        add(f"{name}/gamma", state[f"{module}.weight"])
        add(f"{name}/beta", state[f"{module}.bias"])

    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        scalar(f"{side}/num_heads", stack.config.n_heads, "int16")
        add(f"{side}/position_encodings/encodings", state[f"{side}.positions.table.weight"])
        norm(f"{side}/layer_norm", f"{side}.norm")
        for layer in range(stack.config.n_layers):
            theirs, ours = f"{side}/layer_{layer}", f"{side}.blocks.{layer}"
            norm(f"{theirs}/self_attention/layer_norm", f"{ours}.attention_norm")
            linear(f"{theirs}/self_attention/linear_0", *(f"{ours}.attention.{one}_proj" for one in "qkv"))
            linear(f"{theirs}/self_attention/linear_1", f"{ours}.attention.o_proj")
            norm(f"{theirs}/ffn/layer_norm", f"{ours}.mlp_norm")
            linear(f"{theirs}/ffn/linear_0", f"{ours}.mlp.up_proj")
            linear(f"{theirs}/ffn/linear_1", f"{ours}.mlp.down_proj")
            if side == "decoder":
                norm(f"{theirs}/attention/layer_norm", f"{ours}.cross_attention_norm")
                linear(f"{theirs}/attention/linear_0", f"{ours}.cross_attention.q_proj")
                linear(f"{theirs}/attention/linear_1", *(f"{ours}.cross_attention.{one}_proj" for one in "kv"))
                linear(f"{theirs}/attention/linear_2", f"{ours}.cross_attention.o_proj")
    for number in (0, 1):
        module = f"encoder.embedding.convolutions.{number}.conv"
        add(f"encoder/conv{number + 1}/weight", state[f"{module}.weight"], matrix=True)
        add(f"encoder/conv{number + 1}/bias", state[f"{module}.bias"])
    add("decoder/embeddings/weight", state["decoder.embedding.token.weight"], matrix=True)
    for name, value in (("activation", 3), ("alibi", 0), ("pre_norm", 1), ("scale_embeddings", 0)):
        scalar(f"decoder/{name}", value)
    scalar("decoder/alignment_heads", 1, "int16")
    scalar("decoder/alignment_layer", -1, "int16")
    return made


def write_ctranslate2(folder: Path, model: EncoderDecoder, kind: str = "float32") -> Path:
    """A folder in CTranslate2's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_bytes(model_bin(model, kind).packed())
    (folder / "config.json").write_text('{"suppress_ids": [33], "suppress_ids_begin": [32], "lang_ids": [259, 260]}')
    tokenizer().save(folder)
    return folder
