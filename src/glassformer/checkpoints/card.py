"""The README.md of a model folder: what the model is, the numbers that its maker gives, how to use it."""

from __future__ import annotations

from typing import NamedTuple

from glassformer.checkpoints.families import Family, nearest_public
from glassformer.models import Model, ModelConfig, count_parameters


class Use(NamedTuple):
    """What a kind of model is for: the hubs' word for it, a sentence about what it gives, and a command."""

    tag: str
    gives: str
    command: str


USES = {  # shape, or head of an encoder -> its use
    "decoder": Use(
        "text-generation", "It continues a text, token by token.", 'glassformer generate . -p "Once upon a time"'
    ),
    "encoder_decoder": Use(
        "translation",
        "It reads a source whole, then writes a target token by token, looking at the source in every layer.",
        'glassformer translate . "Good morning."',
    ),
    "transcribe": Use(
        "automatic-speech-recognition",
        "It reads a sequence of vectors whole, such as those of a sound, then writes what was said.",
        "glassformer transcribe . speech.wav",
    ),
    "classify_vectors": Use(
        "audio-classification",
        "It reads a sequence of vectors whole, such as those of a sound, and labels it.",
        "glassformer classify . speech.wav",
    ),
    "tokens": Use(
        "fill-mask",
        "Every token sees the whole text; it fills in what is masked.",
        'glassformer fill . "The cat <|mask|> on the mat."',
    ),
    "labels": Use(
        "text-classification",
        "Every token sees the whole text; it labels the text.",
        'glassformer classify . "What a wonderful film."',
    ),
    "tags": Use(
        "token-classification",
        "Every token sees the whole text; it labels every token.",
        'glassformer classify . "Ada Lovelace lived in London."',
    ),
    "pooled": Use(
        "sentence-similarity",
        "Every token sees the whole text; it makes one vector of length 1 of the text, so that a dot product of two is "
        "their cosine.",
        'glassformer embed . "A cat sat." "A dog ran."',
    ),
}


def model_card(title: str, model: Model, family: Family, body: str | None, *, has_tokenizer: bool) -> str:
    """Markdown with the front matter that model hubs read. `body` is the maker's own part, such as results."""
    public, use = family.rules is not None, use_of(model.config)
    parts = [
        front_matter(family, use, model.config),
        f"# {title}",
        " ".join((what_it_is(model), use.gives, *labels_in_words(model.config), whose_shape(model.config, family))),
        *([body.strip()] if body else []),
        "## Use",
        "In this folder:",
        code("sh", use.command) if has_tokenizer else "",
        code("python", with_others(model.config) if public and has_tokenizer else with_glassformer()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def use_of(config: ModelConfig) -> Use:
    """What a model of this shape and head is for."""
    if config.vectors is not None:
        return USES["classify_vectors" if config.head == "labels" else "transcribe"]
    return USES[config.head if config.shape == "encoder" else config.shape]


def front_matter(family: Family, use: Use, config: ModelConfig) -> str:
    """The YAML head: which library opens the folder, and for what."""
    public = "sentence-transformers" if config.head == "pooled" else "transformers"
    library = "glassformer" if family.rules is None else public
    return f"---\nlibrary_name: {library}\npipeline_tag: {use.tag}\ntags:\n- glassformer\n---"


def what_it_is(model: Model) -> str:
    """The sizes of the model in one sentence."""
    config, count = model.config, f"{count_parameters(model):,} parameters"
    if config.shape == "encoder_decoder":
        source = config.source_side()
        return (
            f"An encoder-decoder transformer of {count}: an encoder of {stack_in_words(source)}, {rows_in_words(source)}, "
            f"and a decoder of {stack_in_words(config)}, {rows_in_words(config)}"
            f"{', with one embedding table for both' if config.shared_embedding else ''}."
        )
    article = "An encoder-only" if config.shape == "encoder" else "A decoder-only"
    return f"{article} transformer of {count}: {stack_in_words(config)}, {rows_in_words(config)}."


def stack_in_words(config: ModelConfig) -> str:
    """The sizes of a stack's layers."""
    heads = f"{config.n_heads} heads of width {config.d_head}"
    if config.n_kv_heads != config.n_heads:
        heads += f" over {config.n_kv_heads} of keys and values"
    return (
        f"{config.n_layers} layers of width {config.d_model}, {heads}, {config.mlp} of width {config.d_ff}, "
        f"{config.norm}, positions {config.positions}"
    )


def rows_in_words(config: ModelConfig) -> str:
    """How many tokens a stack knows, and how many it takes at once; of vectors, how wide they are."""
    if config.vectors is not None and config.shape == "encoder":
        return (
            f"vectors of {config.vectors.size:,} numbers and a context of {config.max_len:,} of what convolutions leave"
        )
    return f"a vocabulary of {config.vocab_size:,} and a context of {config.max_len:,} tokens"


def labels_in_words(config: ModelConfig) -> tuple[str, ...]:
    """The labels that the model gives, in a sentence, if it gives any."""
    if not config.labels:
        return ()
    several = ", of which a text may have several" if config.several_labels else ""
    return (f"The labels are {', '.join(f'`{label}`' for label in config.labels)}{several}.",)


def whose_shape(config: ModelConfig, family: Family) -> str:
    """The public family that has this shape, or what keeps the nearest one from it."""
    if family.rules is not None:
        return f"Its shape is that of {family.name}, as which other tools open it."
    if config.shape != "decoder":
        return "Models of this shape are opened by glassformer."
    nearest = nearest_public(config)
    return (
        f"No public family has this shape, so glassformer opens it; the nearest, {nearest.name}, "
        f"has no words for {', '.join(nearest.why_not(config))}."
    )


def with_others(config: ModelConfig) -> str:
    """A program that uses the model by means of another library."""
    if config.vectors is not None:
        return piped("automatic-speech-recognition", '"speech.wav"')
    match config.head if config.shape == "encoder" else config.shape:
        case "pooled":
            return (
                "from sentence_transformers import SentenceTransformer\n\n"
                'model = SentenceTransformer(".")\n'
                'vectors = model.encode(["A cat sat.", "A dog ran."])\n'
                "print(model.similarity(vectors, vectors))"
            )
        case "decoder":
            return with_transformers("CausalLM", "Once upon a time")
        case "encoder_decoder":
            return with_transformers("Seq2SeqLM", "Good morning.")
        case "tokens":
            return piped("fill-mask", 'f"The cat {ask.tokenizer.mask_token} on the mat."')
        case "labels":
            return piped("text-classification", '"What a wonderful film."')
        case _:
            return piped("token-classification", '"Ada Lovelace lived in London."')


def with_transformers(kind: str, text: str) -> str:
    """A program that writes a text."""
    return (
        f"from transformers import AutoModelFor{kind}, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained(".")\n'
        f'model = AutoModelFor{kind}.from_pretrained(".")\n'
        f'ids = tokenizer("{text}", return_tensors="pt").input_ids\n'
        "print(tokenizer.decode(model.generate(ids, max_new_tokens=50)[0]))"
    )


def piped(task: str, text: str) -> str:
    """A program that asks about a text."""
    return f'from transformers import pipeline\n\nask = pipeline("{task}", ".")\nprint(ask({text}))'


def with_glassformer() -> str:
    """A program that opens the folder."""
    return (
        'from pathlib import Path\n\nfrom glassformer.checkpoints import load_model\n\nloaded = load_model(Path("."))'
    )


def code(language: str, text: str) -> str:
    """A fenced block of Markdown."""
    return f"```{language}\n{text}\n```"
