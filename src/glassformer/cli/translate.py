"""``glassformer translate``: source texts in, target texts out, in their order."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from glassformer.cli.flags import (
    AsJson,
    Device,
    EarlyStopping,
    File,
    LengthPenalty,
    MinNewTokens,
    NBest,
    NoRepeatNgramSize,
    NumBeams,
    Run,
    TextKey,
    Texts,
    Threads,
    given,
    opened,
)
from glassformer.cli.texts import answered, on_one_line, read_texts

if TYPE_CHECKING:
    from glassformer.generate import Translation


def translate(
    run: Run,
    texts: Texts = None,
    file: File = None,
    text_key: TextKey = None,
    num_beams: NumBeams = None,
    length_penalty: LengthPenalty = None,
    no_repeat_ngram_size: NoRepeatNgramSize = None,
    min_new_tokens: MinNewTokens = None,
    max_new_tokens: Annotated[
        int | None, Option("--max-new-tokens", "--max-tokens", "--max-len", help="Most tokens of a translation.")
    ] = None,
    n_best: NBest = None,
    prefix: Annotated[str, Option("--prefix", help="What every translation begins with.")] = "",
    early_stopping: EarlyStopping = None,
    temperature: Annotated[
        float | None, Option("--temperature", "--temp", help="Draw the translations instead of searching for them.")
    ] = None,
    top_k: Annotated[int | None, Option("--top-k", help="Draw from the k likeliest tokens only.")] = None,
    top_p: Annotated[float | None, Option("--top-p", help="Draw from the likeliest that make up this mass.")] = None,
    seed: Annotated[int | None, Option("--seed", help="Seed of what is drawn.")] = None,
    as_json: AsJson = False,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Translate with a model that was trained on pairs.

    One line for each text, in order; with --n-best a line for each translation, its score in front, and a blank line
    between texts; with --json an object for each text.
    """
    asked = read_texts(texts, file, text_key)
    pipe = opened(run, device, threads)
    settings = given(
        num_beams=num_beams,
        length_penalty=length_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        min_new_tokens=min_new_tokens,
        max_new_tokens=max_new_tokens,
        n_best=n_best,
        early_stopping=early_stopping,
    )
    pipe.beam(settings)  # refuses what cannot be meant before anything is read
    settings |= given(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    found = answered(pipe, "translate", asked, lambda some: pipe.translate_many(some, prefix=prefix, **settings))
    for number, (_, translation) in enumerate(found):
        for note in translation.notes:
            print(note, file=sys.stderr)
        if as_json:
            print(json.dumps(as_row(translation), ensure_ascii=False), flush=True)
        elif n_best is None:
            print(on_one_line(translation.text), flush=True)
        else:
            if number:
                print()
            for text, hypothesis in zip(translation.texts, translation.hypotheses, strict=True):
                print(f"{hypothesis.score:.4f}\t{on_one_line(text)}", flush=True)


def as_row(translation: Translation) -> dict[str, Any]:
    """A translation as JSON: the best one, and all with their scores."""
    return {
        "source": translation.source,
        "text": translation.text,
        "score": translation.score,
        "hypotheses": [
            {
                "text": text,
                "score": hypothesis.score,
                "log_probability": hypothesis.log_probability,
                "tokens": len(hypothesis.ids),
                "finish": hypothesis.finish,
            }
            for text, hypothesis in zip(translation.texts, translation.hypotheses, strict=True)
        ],
    }
