"""Writing a model folder in the Hugging Face layout, whole or not at all."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from glassformer import __version__
from glassformer.checkpoints import tensors
from glassformer.checkpoints.card import model_card
from glassformer.checkpoints.families import Family, family_of, sentence_transformers
from glassformer.checkpoints.families.own import GLASSFORMER
from glassformer.checkpoints.families.sentence_transformers import HABITS
from glassformer.checkpoints.generation_words import IDS, in_their_words
from glassformer.checkpoints.json_files import write_json
from glassformer.checkpoints.preprocessor import write_features
from glassformer.checkpoints.weights import parameters, to_file
from glassformer.errors import CheckpointError
from glassformer.features import FeatureConfig
from glassformer.files import whole_folder
from glassformer.models import Model, ModelConfig
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.roles import START

# What a model folder consists of, ours or another tool's; a folder with anything else is never replaced.
BELONGS = (
    ".gitattributes",
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "config_sentence_transformers.json",
    "export.json",
    "generation_config.json",
    "merges.txt",
    "model*.safetensors",
    "model.safetensors.index.json",
    "modules.json",
    "normalizer.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
SOURCE = "source"  # the folder inside for the tokenizer of sources, where they have a vocabulary of their own
OF_A_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
FOLDERS = {SOURCE: OF_A_TOKENIZER, "1_Pooling": ("config.json",), "2_Normalize": ()}


def save_model(
    folder: Path,
    model: Model,
    tokenizer: Tokenizer | None = None,
    *,
    source_tokenizer: Tokenizer | None = None,
    generation: Mapping[str, Any] | None = None,
    card: str | None = None,
    title: str | None = None,
    extra: Mapping[str, str] | None = None,
    chat_template: str | None = None,
    features: FeatureConfig | None = None,
) -> None:
    """Write `folder`, in place of the model folder that stands there, if one does.

    A model that a public family expresses is written as that family, so that `transformers` opens it; any other as
    `model_type: glassformer`. source_tokenizer: that of an encoder-decoder's sources where it is another one; it goes
    into the folder ``source`` inside. generation: defaults such as ``{"temperature": 0.8}``, in the words of
    generation_config.json. card and title: Markdown for the README.md, such as results, and its heading. extra: what
    else to remember in the metadata of the weights. chat_template: how conversations are written for it. features: how a
    wave becomes the vectors that it reads. Raises CheckpointError where a tokenizer does not fit the model or the folder
    holds other files, DiskError where the disk refuses; then what stood there is untouched.
    """
    folder = folder.resolve()
    refuse_strangers(folder)
    config = model.config
    family = family_for(config, tokenizer)
    refuse_misfits(config, tokenizer, source_tokenizer, str(folder))
    ids = token_ids(tokenizer, config, generation or {})
    metadata = {**(extra or {}), "config": config.model_dump(mode="json"), "version": __version__}
    with whole_folder(folder) as draft:
        # What a family says of a token goes before the tokenizer's own: RoBERTa counts positions from it.
        write_json(draft / "config.json", {**ids, **family.to_config(config), "dtype": dtype_name(model)})
        defaults = dict(generation or {})
        beside = family.beside(config) if family.beside else {}
        for name, content in {
            **beside,
            **sentence_transformers.write_habits(config, defaults.pop(HABITS, {}), beside),
        }.items():
            (draft / name).parent.mkdir(exist_ok=True)
            write_json(draft / name, content)
        write_json(draft / "generation_config.json", {**ids, **in_their_words(defaults)})
        tensors.write(draft / tensors.WHOLE, to_file(model, family), metadata)
        if tokenizer is not None:
            as_read(tokenizer, config).save(draft)
        if chat_template is not None:
            (draft / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
        if features is not None:
            write_features(features, draft)
        if source_tokenizer is not None:
            source_tokenizer.save(draft / SOURCE)
        text = model_card(title or folder.name, model, family, card, has_tokenizer=tokenizer is not None)
        (draft / "README.md").write_text(text, encoding="utf-8")


def token_ids(tokenizer: Tokenizer | None, config: ModelConfig, generation: Mapping[str, Any]) -> dict[str, Any]:
    """The ids that generating asks for, written out even where there are none, since families have defaults for them.

    Where no token is there to begin a text, the one that ends it does so, as in GPT-2. What `generation` says of them counts.
    """
    start = eos = pad = None
    if tokenizer is not None:
        roles = tokenizer.special
        eos, pad = (None if text is None else tokenizer.special_tokens[text] for text in (roles.eos, roles.pad))
        start = tokenizer.special_tokens.get(START, eos)
    ids = {"bos_token_id": start, "eos_token_id": eos, "pad_token_id": pad}
    if config.shape == "encoder_decoder" and start is not None:
        ids["decoder_start_token_id"] = start
    return {**ids, **{key: generation[key] for key in IDS if key in generation}}


def family_for(config: ModelConfig, tokenizer: Tokenizer | None) -> Family:
    """The first family that says all of a model, its tokenizer's padding too where the family computes with that."""
    family = family_of(config)
    padding = family.to_config(config).get("pad_token_id") if family.rules else None
    if tokenizer is None or tokenizer.special.pad is None or padding in (None, tokenizer.pad_id):
        return family
    return GLASSFORMER


def as_read(tokenizer: Tokenizer, config: ModelConfig) -> Tokenizer:
    """A tokenizer that tells other tools which of its tokens stand around a text that an encoder trained here reads whole."""
    if tokenizer.kind == "library" or tokenizer.frame != ((), ()) or config.shape != "encoder":
        return tokenizer
    start = tokenizer.special_tokens.get(START)
    framed = copy.copy(tokenizer)
    if config.head == "labels" and start is not None:
        framed.frame = ((start,), ())
    elif config.head == "pooled":
        framed.frame = ((), (tokenizer.eos_id,))
    return framed


def dtype_name(model: Model) -> str:
    """The number type of the weights in the words of config.json: ``float32``."""
    return str(next(iter(parameters(model).values())).dtype).removeprefix("torch.")


def refuse_strangers(folder: Path) -> None:
    """Raise CheckpointError where saving would delete files that belong to no model."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is a file, expected the name of a model folder")
    strangers = sorted(path.name for path in folder.iterdir() if not belongs(path))
    if strangers:
        raise CheckpointError(
            f"{folder}: holds {', '.join(strangers[:3])}, which saving a model here would delete; "
            "give a new folder or an empty one"
        )


def belongs(path: Path) -> bool:
    """Whether this is what a model folder consists of."""
    if path.is_dir():
        return path.name in FOLDERS and all(inner.name in FOLDERS[path.name] for inner in path.iterdir())
    return any(fnmatchcase(path.name, glob) for glob in BELONGS)


def refuse_misfits(
    config: ModelConfig, tokenizer: Tokenizer | None, source_tokenizer: Tokenizer | None, where: str
) -> None:
    """Raise CheckpointError where a tokenizer has ids that its side of the model has no row for, or no side at all."""
    if source_tokenizer is not None and config.shape != "encoder_decoder":
        raise CheckpointError(
            f"{where}: a source tokenizer belongs to an encoder-decoder, found shape={config.shape!r}"
        )
    refuse_larger("tokenizer", tokenizer, "model", config.vocab_size, where)
    if config.shape == "encoder_decoder":
        rows = config.source_side().vocab_size
        if source_tokenizer is None:
            refuse_larger("tokenizer", tokenizer, "encoder", rows, where)
        else:
            refuse_larger("source tokenizer", source_tokenizer, "encoder", rows, where)


def refuse_larger(name: str, tokenizer: Tokenizer | None, side: str, rows: int, where: str) -> None:
    """Raise CheckpointError where a tokenizer has ids beyond the `rows` of its embedding."""
    if tokenizer is not None and tokenizer.vocab_size > rows:
        raise CheckpointError(
            f"{where}: the {name} has {tokenizer.vocab_size} tokens but the {side} knows only {rows}; "
            "they do not belong together"
        )
