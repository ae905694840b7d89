"""What the steps of a run follow from besides its weights: recipe, files, tokenizer, versions; and what of it has changed."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from glassformer import __version__
from glassformer.data.sources import expand
from glassformer.errors import GlassformerError
from glassformer.files import sha256
from glassformer.training.recipe import DataRecipe, Recipe
from glassformer.training.resume import flat
from glassformer.training.tasks import Task
from glassformer.training.tasks.utterances import Utterances

ORIGIN = "origin.json"
MOST_NAMED = 2000  # files of sound whose digests a checkpoint holds one by one
TOKENIZERS = ("tokenizer", "source_tokenizer")  # folders of a run


@dataclass(frozen=True)
class Origin:
    """A checkpoint carries one, and whoever goes on from it compares it with what there is now."""

    recipe: Mapping[str, Any]  # by dotted key
    files: Mapping[str, str]  # sha256 of each source, by its path
    tokenizer: Mapping[str, str]  # of each file of the run's tokenizers
    tokens: str  # of the text in tokens, and how it was split
    versions: Mapping[str, str]
    heard: Mapping[str, str] = field(default_factory=dict)  # sha256 of the sound of each file, or of all in a folder

    def json(self) -> str:
        """As the file of a checkpoint."""
        return json.dumps(asdict(self), indent=1)

    def changes_since(self, earlier: Origin) -> list[str]:
        """A clause for everything that is another than it was: ``optimiser.lr 0.02 -> 0.01``, ``my.txt (changed)``."""
        found = [f"{key} {old} -> {new}" for key, old, new in pairs(earlier.recipe, self.recipe) if old != new]
        heard = (self.heard, earlier.heard) if earlier.heard else ({}, {})  # which older versions did not write down
        for now, then in ((self.files, earlier.files), heard, (self.tokenizer, earlier.tokenizer)):
            found += [f"{name} ({how(old, new)})" for name, old, new in pairs(then, now) if old != new]
        if not found and self.tokens != earlier.tokens:
            versions = [
                f"{name} {old} -> {new}" for name, old, new in pairs(earlier.versions, self.versions) if old != new
            ]
            found.append(
                f"the tokens of the text ({', '.join(versions) or 'what is piped in, or built in, is another'})"
            )
        return found

    def newer_versions(self, earlier: Origin) -> list[str]:
        """The same for the programs that may round otherwise."""
        return [f"{name} {old} -> {new}" for name, old, new in pairs(earlier.versions, self.versions) if old != new]


def origin_of(recipe: Recipe, task: Task, folder: Path) -> Origin:
    """What the run in `folder` follows from as things are now."""
    return Origin(
        flat(recipe.model_dump(mode="json")),
        {**task.digests} if task.digests is not None else digests(recipe.data),
        {
            f"{name}/{file.name}": sha256(file)
            for name in TOKENIZERS
            for file in sorted((folder / name).glob("*"))
            if file.is_file()
        },
        task.fingerprint,
        {"glassformer": __version__, "torch": torch.__version__},
        in_folders(heard_by(task)),
    )


def read_origin(path: Path) -> Origin | None:
    """What a sound checkpoint follows from; None where it does not say."""
    file = path / ORIGIN
    return Origin(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def digests(data: DataRecipe) -> dict[str, str]:
    """sha256 of every file that the sources stand for, by its path; pipes and built-in texts have none."""
    found: dict[str, str] = {}
    for source in (*data.sources, *data.validation):
        try:
            files = [Path(file) for file in expand(source, [])]
        except GlassformerError:  # whoever read it understood it otherwise, and its tokens are compared all the same
            continue
        found |= {str(file): sha256(file) for file in files if file.is_file()}
    return found


def heard_by(task: Task) -> Mapping[str, str]:
    """sha256 of each file of sound or vectors as it is heard, those of noise to train under among them."""
    hearing = task.hearing if isinstance(task, Utterances) else None
    return {} if hearing is None else {**hearing.digests, **hearing.noise}


def in_folders(files: Mapping[str, str]) -> dict[str, str]:
    """Digests by file; of more than can be told one by one, those of all that lie in a folder as one."""
    if len(files) <= MOST_NAMED:
        return dict(files)
    found: defaultdict[str, Any] = defaultdict(hashlib.sha256)
    for name in sorted(files):
        found[f"{Path(name).parent}/"].update(f"{name} {files[name]}\n".encode())
    return {folder: digest.hexdigest() for folder, digest in found.items()}


def pairs(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Every key of either with both values, None where there is none."""
    for key in [*old, *(key for key in new if key not in old)]:
        yield key, old.get(key), new.get(key)


def how(old: str | None, new: str | None) -> str:
    """What has happened to a file."""
    return "gone" if new is None else "new" if old is None else "changed"
