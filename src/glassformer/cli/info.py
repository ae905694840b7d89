"""``glassformer info``: what a model is made of, how it is stored, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument

from glassformer.cli.flags import AsJson

if TYPE_CHECKING:
    from glassformer.export import Facts

MOST_FILES, MOST_SPECIAL = 8, 8


def info(
    target: Annotated[Path, Argument(help="Run folder, model folder, .gguf file, .glass file, film, or hub:org/name.")],
    as_json: AsJson = False,
) -> None:
    """What it is and how it is stored; shapes, parameters by part, and memory for weights, cache and training."""
    from glassformer.checkpoints.open import place_of
    from glassformer.cli.export import read
    from glassformer.export import look_into
    from glassformer.lens.describe import describe

    place = place_of(target)
    facts = look_into(place)
    if facts.kind in ("glass", "film"):
        shown = described_file(facts, place)
        print(json.dumps(facts.to_dict() | {"about": shown}, indent=2) if as_json else "\n".join(shown))
        return
    loaded = read(place)
    facts = facts.with_model(loaded)
    description = describe(
        loaded.model, loaded.tokenizer, source_tokenizer=loaded.source_tokenizer, features=loaded.features
    )
    if as_json:
        print(json.dumps({**description.to_dict(), **facts.to_dict()}, indent=2))
        return
    print("\n".join((*rendered(facts), "", str(description))), end="")


def rendered(facts: Facts) -> Iterator[str]:
    """What a model is and how it is stored, within 80 columns."""
    from glassformer.export.inspecting import KINDS
    from glassformer.lens.arithmetic import Numbers
    from glassformer.lens.describe import in_bytes
    from glassformer.lens.layout import Page

    page = Page(80, Numbers(4))
    files = [f"{name} {in_bytes(size)}" for name, size in list(facts.files.items())[:MOST_FILES]]
    files += [f"and {len(facts.files) - MOST_FILES} more"] * (len(facts.files) > MOST_FILES)
    rows = [
        ("what", f"{KINDS[facts.kind]} {facts.where}"),
        ("family", facts.family or ""),
        ("stored", ", ".join(f"{n.numbers:,} numbers in {n.tensors} tensors of {n.type}" for n in facts.stored)),
        ("files", ", ".join(files) + f"; {in_bytes(sum(facts.files.values()))} in all"),
        ("tokenizer", tokenizer_in_words(facts)),
        ("template", "for chat, yes" if facts.has_template else "for chat, none"),
    ]
    for name, text in rows:
        yield from (row.text for row in page.fill(text.split(), first=f"{name:<10}", hang=" " * 10))


def tokenizer_in_words(facts: Facts) -> str:
    """Its kind and its special tokens."""
    if facts.tokenizer is None:
        return "none, so that no text can be read or written"
    special = list((facts.special or {}).items())
    named = ", ".join(f"{text} {id}" for text, id in special[:MOST_SPECIAL])
    more = f" and {len(special) - MOST_SPECIAL} more" if len(special) > MOST_SPECIAL else ""
    of_sources = f"; {facts.source_tokenizer} for sources" if facts.source_tokenizer else ""
    return f"{facts.tokenizer}{of_sources}; special: {named + more if special else 'none'}"


def described_file(facts: Facts, path: Path) -> list[str]:
    """What a trace or a film is, from its own words. Raises CheckpointError for a damaged one."""
    from glassformer.export.inspecting import KINDS
    from glassformer.lens.describe import in_bytes

    said = [f"{path}: {KINDS[facts.kind]}; {in_bytes(sum(facts.files.values()))}"]
    if facts.kind == "film":
        from glassformer.lens.film import load_film

        return [*said, f"{len(load_film(path))} frames"]
    return [*said, *of_trace(path)]


def of_trace(path: Path) -> list[str]:
    """What a .glass file says of its model and its tensors. Raises CheckpointError."""
    from glassformer.lens.glass.archive import MANIFEST, read_archive, unpack_json
    from glassformer.lens.glass.file import understood

    told: Any = unpack_json(read_archive(path)[MANIFEST], f"{path}: {MANIFEST}")
    with understood(path):
        model, config = told["model"], told["model"]["config"]
        return [
            f"task {model['task']}, {config['shape']} of {config['n_layers']} layers of width {config['d_model']}, weights"
            f" {model['weights']} (sha256 {model['weights_sha256'][:12]})",
            f"{len(told['points'])} points; made {told['created']} with glassformer {told['glassformer']}",
        ]
