"""Writing a model folder in the Hugging Face layout, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from glassformer import __version__
from glassformer.checkpoints import tensors
from glassformer.checkpoints.card import model_card
from glassformer.checkpoints.families import family_of
from glassformer.checkpoints.json_files import write_json
from glassformer.checkpoints.weights import parameters, to_file
from glassformer.errors import CheckpointError
from glassformer.files import whole_folder
from glassformer.models import Decoder
from glassformer.tokenizers import Tokenizer

# What a model folder consists of, ours or another tool's; a folder with anything else is never replaced.
BELONGS = (
    ".gitattributes",
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model*.safetensors",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)


def save_model(
    folder: Path,
    model: Decoder,
    tokenizer: Tokenizer | None = None,
    *,
    generation: Mapping[str, Any] | None = None,
    card: str | None = None,
    title: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write `folder`, in place of the model folder that stands there, if one does.

    A model that a public family expresses is written as that family, so that `transformers` opens it; any other as
    `model_type: glassformer`. generation: defaults such as ``{"temperature": 0.8}``, in the words of
    generation_config.json. card and title: Markdown for the README.md, such as
    results, and its heading. extra: what else to remember in the
    metadata of the weights. Raises CheckpointError where the tokenizer does not fit the model or the folder holds other
    files, DiskError where the disk refuses; then what stood there is untouched.
    """
    folder = folder.resolve()
    refuse_strangers(folder)
    family, config = family_of(model.config), model.config
    if tokenizer is not None:
        refuse_larger(tokenizer, config.vocab_size, str(folder))
    ids = token_ids(tokenizer)
    metadata = {**(extra or {}), "config": config.model_dump(mode="json"), "version": __version__}
    with whole_folder(folder) as draft:
        write_json(draft / "config.json", {**family.to_config(config), "dtype": dtype_name(model), **ids})
        write_json(draft / "generation_config.json", {**ids, **(generation or {})})
        tensors.write(draft / tensors.WHOLE, to_file(model, family), metadata)
        if tokenizer is not None:
            tokenizer.save(draft)
        text = model_card(title or folder.name, model, family, card, has_tokenizer=tokenizer is not None)
        (draft / "README.md").write_text(text, encoding="utf-8")


def token_ids(tokenizer: Tokenizer | None) -> dict[str, int | None]:
    """The ids that generating asks for, written out even where there are none, since families have defaults for them.

    As in GPT-2 the token that ends a text is also the one that begins it.
    """
    if tokenizer is None:
        return {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    roles = tokenizer.special
    eos, pad = (None if text is None else tokenizer.special_tokens[text] for text in (roles.eos, roles.pad))
    return {"bos_token_id": eos, "eos_token_id": eos, "pad_token_id": pad}


def dtype_name(model: Decoder) -> str:
    """The number type of the weights in the words of config.json: ``float32``."""
    return str(next(iter(parameters(model).values())).dtype).removeprefix("torch.")


def refuse_strangers(folder: Path) -> None:
    """Raise CheckpointError where saving would delete files that belong to no model."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is a file, expected the name of a model folder")
    strangers = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() or not any(fnmatchcase(path.name, glob) for glob in BELONGS)
    )
    if strangers:
        raise CheckpointError(
            f"{folder}: holds {', '.join(strangers[:3])}, which saving a model here would delete; "
            "give a new folder or an empty one"
        )


def refuse_larger(tokenizer: Tokenizer, vocab_size: int, where: str) -> None:
    """Raise CheckpointError where the tokenizer has ids that the model has no row for."""
    if tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"{where}: the tokenizer has {tokenizer.vocab_size} tokens but the model knows only {vocab_size}; "
            "they do not belong together"
        )
