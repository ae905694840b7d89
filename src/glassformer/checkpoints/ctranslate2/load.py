"""A folder in CTranslate2's layout as a model: Whisper's variables by our names, what is quantised made float32."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from glassformer.checkpoints.ctranslate2.file import INTEGERS, MODEL, SCALE, VERSION, ModelFile, walked
from glassformer.checkpoints.families.rules import Shape, shown
from glassformer.checkpoints.families.whisper import FIXED, STRIDES, WHISPER
from glassformer.checkpoints.grouped import grouped
from glassformer.checkpoints.json_files import read_json, refuse_pointer
from glassformer.checkpoints.load import Loaded, features_of, tokenizer_of
from glassformer.checkpoints.save import refuse_misfits
from glassformer.checkpoints.stored import FLOATS
from glassformer.checkpoints.weights import Progress, alone, counting, parameters, ties, unfilled
from glassformer.errors import CheckpointError, ConfigError
from glassformer.models import Model, ModelConfig
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.whisper import END, ENGLISH_ONLY, LATEST_FIRST, NO_TIMES, PREVIOUS, START, TASKS

SPEC, REVISION = "WhisperSpec", 3
GELU = 3  # the activation by its number
LAYER = re.compile(r"(encoder|decoder)/layer_(\d{1,6})/")
TIED = ("decoder/projection/weight", "decoder/embeddings/weight")
# Numbers that say how the model computes, and the one value of each that Whisper has; others are idle.
SAID = {
    "decoder/activation": GELU,
    "decoder/alibi": 0,
    "decoder/pre_norm": 1,
    "decoder/scale_embeddings": 0,
    "decoder/start_from_zero_embedding": 0,
}
IDLE = frozenset({"decoder/alignment_heads", "decoder/alignment_layer", "decoder/num_heads", "encoder/num_heads"})
FROM_CONFIG = {  # their key: that of generation_config.json
    "suppress_ids": "suppress_tokens",
    "suppress_ids_begin": "begin_suppress_tokens",
    "alignment_heads": "alignment_heads",
}


class Part(NamedTuple):
    """A variable of the file and the parameters it holds, row after row; None are rows of zeros that no model here has."""

    theirs: str
    ours: tuple[str | None, ...]


def linear(theirs: str, *ours: str | None) -> list[Part]:
    """Weight and bias of maps that lie in one matrix."""
    return [
        Part(f"{theirs}/weight", tuple(f"{name}.weight" for name in ours if name)),
        Part(f"{theirs}/bias", tuple(None if name and name.endswith("k_proj") else f"{name}.bias" for name in ours)),
    ]


def norm(theirs: str, ours: str) -> list[Part]:
    """Gain and shift of a norm."""
    return [Part(f"{theirs}/gamma", (f"{ours}.weight",)), Part(f"{theirs}/beta", (f"{ours}.bias",))]


def layer_parts(side: str, layer: int) -> list[Part]:
    """The variables of one layer."""
    theirs, ours = f"{side}/layer_{layer}", f"{side}.blocks.{layer}"
    attention, cross = f"{ours}.attention", f"{ours}.cross_attention"
    parts = [
        *norm(f"{theirs}/self_attention/layer_norm", f"{ours}.attention_norm"),
        *linear(f"{theirs}/self_attention/linear_0", *(f"{attention}.{name}_proj" for name in "qkv")),
        *linear(f"{theirs}/self_attention/linear_1", f"{attention}.o_proj"),
        *norm(f"{theirs}/ffn/layer_norm", f"{ours}.mlp_norm"),
        *linear(f"{theirs}/ffn/linear_0", f"{ours}.mlp.up_proj"),
        *linear(f"{theirs}/ffn/linear_1", f"{ours}.mlp.down_proj"),
    ]
    if side == "decoder":
        parts += [
            *norm(f"{theirs}/attention/layer_norm", f"{ours}.cross_attention_norm"),
            *linear(f"{theirs}/attention/linear_0", f"{cross}.q_proj"),
            *linear(f"{theirs}/attention/linear_1", f"{cross}.k_proj", f"{cross}.v_proj"),
            *linear(f"{theirs}/attention/linear_2", f"{cross}.o_proj"),
        ]
    return parts


def parts_of(config: ModelConfig) -> list[Part]:
    """All variables of a model."""
    layers = {"encoder": config.source_side().n_layers, "decoder": config.n_layers}
    parts = [part for side, count in layers.items() for layer in range(count) for part in layer_parts(side, layer)]
    for side in layers:
        parts.append(Part(f"{side}/position_encodings/encodings", (f"{side}.positions.table.weight",)))
        parts += norm(f"{side}/layer_norm", f"{side}.norm")
    for number in (0, 1):
        parts += linear(f"encoder/conv{number + 1}", f"encoder.embedding.convolutions.{number}.conv")
    parts.append(Part(TIED[1], ("decoder.embedding.token.weight",)))
    return parts if config.tied else [*parts, Part(TIED[0], ("head.linear.weight",))]


def is_ctranslate2(folder: Path) -> bool:
    """Whether a folder is in this layout: it has a model.bin that begins as such files do."""
    path = folder / MODEL
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(4) == VERSION.to_bytes(4, "little")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None


def load_ctranslate2(
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Loaded:
    """The model of a folder with model.bin, in evaluation mode, with its tokenizer where there is one.

    `dtype` None keeps the number type of the file where all its matrices have one that torch has, else it is float32.
    Raises CheckpointError, naming the file, for what is missing, damaged, or cannot be expressed here, and TokenizerError.
    """
    path = folder / MODEL
    try:
        raw = FileIO(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    with raw:
        refuse_pointer(path, raw.read(64))
        file = walked(path, raw)
        config = config_of(file)
        tokenizer = tokenizer_of(folder)
        refuse_misfits(config, tokenizer, None, str(folder))
        notes = check_rest(file, config)
        generation = generation_of(folder, tokenizer, config)
        features = features_of(folder, config, WHISPER)
        model = build(config, file, dtype or own_type(file), torch.device(device), progress)
    return Loaded(model, tokenizer, generation, WHISPER.model_type, notes=tuple(notes), features=features)


def config_of(file: ModelFile) -> ModelConfig:
    """The model that the shapes of the variables describe. Raises CheckpointError."""
    if (file.spec, file.revision) != (SPEC, REVISION):
        raise CheckpointError(
            f"{file.where}: holds a {file.spec} (revision {file.revision}), expected a {SPEC} (revision {REVISION}): of"
            " CTranslate2's models Whisper alone is read here"
        )
    for name, value in SAID.items():
        if file.number(name, value) != value:
            raise CheckpointError(f"{file.where}: {name} is {file.number(name)}, expected {value} as in every Whisper")
    vocab_size, d_model = file.shape(TIED[1], 2)
    sides: dict[str, dict[str, Any]] = {}
    for side in ("encoder", "decoder"):
        numbers = {int(found[2]) for name in file.variables if (found := LAYER.match(name)) and found[1] == side}
        if not numbers or numbers != set(range(len(numbers))):
            raise file.wrong(f"it holds {len(numbers)} layers of the {side}, not numbered from 0 on")
        sides[side] = {
            "d_ff": file.shape(f"{side}/layer_0/ffn/linear_0/weight", 2)[0],
            "max_len": file.shape(f"{side}/position_encodings/encodings", 2)[0],
            "n_heads": file.number(f"{side}/num_heads"),
            "n_layers": len(numbers),
        }
    try:
        return ModelConfig.parse(
            {
                **FIXED,
                **sides["decoder"],
                "d_model": d_model,
                "encoder": sides["encoder"],
                "mlp": "gelu",
                "tied": file.variables.get(TIED[0]) is file.variables[TIED[1]],
                "vectors": {"size": file.shape("encoder/conv1/weight", 3)[1], "strides": STRIDES, "activation": "gelu"},
                "vocab_size": vocab_size,
            },
            file.where,
        )
    except ConfigError as error:
        raise CheckpointError(str(error)) from None


def check_rest(file: ModelFile, config: ModelConfig) -> list[str]:
    """Sentences about numbers that were left out. Raises CheckpointError for tensors that are missing or have no place."""
    known = {part.theirs for part in parts_of(config)}
    lacking = known - file.variables.keys()
    if lacking:
        raise CheckpointError(f"{file.where}: lacks {grouped(sorted(lacking))}")
    scales = {name + SCALE for name in known}
    rest = file.variables.keys() - known - scales - SAID.keys() - IDLE - {TIED[0], TIED[0] + SCALE}
    tensors = sorted(name for name in rest if file.variables[name].shape not in ((), (1,)))
    if tensors:
        raise CheckpointError(f"{file.where}: holds unexpected {grouped(tensors)}")
    left = sorted(name for name in rest if file.variables[name].kind not in INTEGERS or file.number(name) != 0)
    return [f"{file.where}: {SPEC} has no such numbers here and they were left out: {', '.join(left)}"] if left else []


def own_type(file: ModelFile) -> torch.dtype:
    """The number type that all matrices of a file have, float32 where they differ or are quantised."""
    kinds = {one.kind for one in file.variables.values() if len(one.shape) > 1}
    kind = kinds.pop() if len(kinds) == 1 else "F32"
    return FLOATS.get(kind, torch.float32)


def build(
    config: ModelConfig, file: ModelFile, dtype: torch.dtype, device: torch.device, progress: Progress | None
) -> Model:
    """A model with the weights of a file, in evaluation mode. Raises CheckpointError."""
    model = unfilled(config)
    ours = {name: tuple(parameter.shape) for name, parameter in parameters(model).items()}
    parts = parts_of(config)
    for part in parts:
        check_shape(file, part, ours)
    told = counting(progress, sum(file.variables[part.theirs].held for part in parts))
    state: dict[str, Tensor] = {}
    for part in parts:
        whole = file.read(part.theirs)
        for name, piece in zip(part.ours, whole.split(rows_of(part, ours)), strict=True):
            if name is not None:
                state[name] = nn.Parameter(alone(piece).to(device, dtype))
            elif bool(piece.any()):
                raise CheckpointError(f"{file.where}: {part.theirs} moves the keys, which Whisper never does")
        told(file.variables[part.theirs].held)
    state |= {name: state[first] for name, first in ties(model).items()}
    model.load_state_dict(state, assign=True)
    return model.eval()


def rows_of(part: Part, ours: Mapping[str, Shape]) -> list[int]:
    """How many rows of a variable belong to each of its parameters; rows of zeros are as many as those beside them."""
    beside = next(ours[name][0] for name in part.ours if name is not None)
    return [beside if name is None else ours[name][0] for name in part.ours]


def check_shape(file: ModelFile, part: Part, ours: Mapping[str, Shape]) -> None:
    """Raise CheckpointError where a variable has another shape than its parameters together."""
    first = next(name for name in part.ours if name is not None)
    expected = (sum(rows_of(part, ours)), *ours[first][1:])
    found = file.variables[part.theirs].shape
    if found != expected:
        raise CheckpointError(
            f"{file.where}: {part.theirs} is {shown(found)}, the other variables call for {shown(expected)}"
        )


def generation_of(folder: Path, tokenizer: Tokenizer | None, config: ModelConfig) -> dict[str, Any]:
    """What generation_config.json would say, from config.json and the tokens. Raises CheckpointError."""
    path = folder / "config.json"
    said = read_json(path) if path.exists() else {}
    found = {ours: said[theirs] for theirs, ours in FROM_CONFIG.items() if said.get(theirs) is not None}
    if tokenizer is None:
        return found
    ids = tokenizer.special_tokens
    by_name = {name: ids[text] for name, text in TOKENS.items() if text in ids}
    found |= {"max_length": config.max_len, "max_initial_timestamp_index": LATEST_FIRST, **by_name}
    if "eos_token_id" in found:
        found |= {"pad_token_id": found["eos_token_id"], "bos_token_id": found["eos_token_id"]}
    found["is_multilingual"] = config.vocab_size > ENGLISH_ONLY
    if found["is_multilingual"]:
        spoken = set(said.get("lang_ids") or ())
        found["lang_to_id"] = {text: id for text, id in ids.items() if id in spoken}
        found["task_to_id"] = {name: ids[text] for name, text in TASKS.items() if text in ids}
    return found


TOKENS = {
    "eos_token_id": END,
    "decoder_start_token_id": START,
    "no_timestamps_token_id": NO_TIMES,
    "prev_sot_token_id": PREVIOUS,
}
