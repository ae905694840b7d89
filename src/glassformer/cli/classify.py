"""``glassformer classify``: the labels of texts, or the tags of their words."""

from __future__ import annotations

import json
from typing import Any

from glassformer.cli.flags import AsJson, Device, File, Run, TextKey, Texts, Threads, opened
from glassformer.cli.texts import answered, on_one_line, read_texts


def classify(
    run: Run,
    texts: Texts = None,
    file: File = None,
    text_key: TextKey = None,
    as_json: AsJson = False,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Label texts with a model that was trained on labelled ones, or tag their words.

    One line for each text, in order: the labels with their probabilities, then the text; or each word with its tag.
    """
    asked = read_texts(texts, file, text_key)
    pipe = opened(run, device, threads)
    for text, found in answered(pipe, "classify", asked, pipe.classify_many):
        print(json.dumps(as_row(found), ensure_ascii=False) if as_json else as_line(text, found), flush=True)


def as_line(text: str, found: Any) -> str:
    """What was found of one text, for the eye."""
    if hasattr(found, "tags"):
        return " ".join(f"{word}/{tag}" for word, tag in zip(found.words, found.tags, strict=True))
    labels = ", ".join(f"{label} {found.probabilities[label]:.3f}" for label in found.labels) or "none"
    return f"{labels}\t{on_one_line(text)}"


def as_row(found: Any) -> dict[str, Any]:
    """The same as JSON, with the probability of every label."""
    if hasattr(found, "tags"):
        carried = [row[tag] for row, tag in zip(found.probabilities, found.tags, strict=True)]
        return {"words": found.words, "tags": found.tags, "probabilities": carried}
    return {"text": found.text, "labels": found.labels, "probabilities": dict(found.probabilities)}
