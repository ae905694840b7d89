"""The README.md of a model folder: what the model is, the numbers that its maker gives, how to use it."""

from __future__ import annotations

from glassformer.checkpoints.families import Family, nearest_public
from glassformer.models import Decoder, ModelConfig, count_parameters


def model_card(title: str, model: Decoder, family: Family, body: str | None, *, has_tokenizer: bool) -> str:
    """Markdown with the front matter that model hubs read. `body` is the maker's own part, such as results."""
    public = family.rules is not None
    parts = [
        front_matter(family),
        f"# {title}",
        f"{what_it_is(model)} {whose_shape(model.config, family)}",
        *([body.strip()] if body else []),
        "## Use",
        "In this folder:",
        code("sh", 'glassformer generate . -p "Once upon a time"') if has_tokenizer else "",
        code("python", with_transformers() if public and has_tokenizer else with_glassformer()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front_matter(family: Family) -> str:
    """The YAML head: which library opens the folder, and for what."""
    library = "glassformer" if family.rules is None else "transformers"
    return f"---\nlibrary_name: {library}\npipeline_tag: text-generation\ntags:\n- glassformer\n---"


def what_it_is(model: Decoder) -> str:
    """The sizes of the model in one sentence."""
    config = model.config
    heads = f"{config.n_heads} heads of width {config.d_head}"
    if config.n_kv_heads != config.n_heads:
        heads += f" over {config.n_kv_heads} of keys and values"
    return (
        f"A decoder-only transformer of {count_parameters(model):,} parameters: {config.n_layers} layers of width "
        f"{config.d_model}, {heads}, {config.mlp} of width {config.d_ff}, {config.norm}, positions {config.positions}, "
        f"a vocabulary of {config.vocab_size:,} and a context of {config.max_len:,} tokens."
    )


def whose_shape(config: ModelConfig, family: Family) -> str:
    """The public family that has this shape, or what keeps the nearest one from it."""
    if family.rules is not None:
        return f"Its shape is that of {family.name}, as which other tools open it."
    nearest = nearest_public(config)
    return (
        f"No public family has this shape, so glassformer opens it; the nearest, {nearest.name}, "
        f"has no words for {', '.join(nearest.why_not(config))}."
    )


def with_transformers() -> str:
    """A program that continues a text by means of another library."""
    return (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained(".")\n'
        'model = AutoModelForCausalLM.from_pretrained(".")\n'
        'ids = tokenizer("Once upon a time", return_tensors="pt").input_ids\n'
        "print(tokenizer.decode(model.generate(ids, max_new_tokens=50)[0]))"
    )


def with_glassformer() -> str:
    """A program that opens the folder."""
    return (
        'from pathlib import Path\n\nfrom glassformer.checkpoints import load_model\n\nloaded = load_model(Path("."))'
    )


def code(language: str, text: str) -> str:
    """A fenced block of Markdown."""
    return f"```{language}\n{text}\n```"
