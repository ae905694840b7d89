"""``glassformer trace``: everything that a model computes about a text, in one file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from glassformer.cli.flags import (
    FrequencyPenalty,
    Greedy,
    LengthPenalty,
    MinNewTokens,
    MinP,
    NoRepeatNgramSize,
    NumBeams,
    PresencePenalty,
    RepetitionPenalty,
    Run,
    Temperature,
    TopK,
    TopP,
    given,
    opened,
)

if TYPE_CHECKING:
    from glassformer.lens.glass import Trace
    from glassformer.pipeline import Pipeline


def trace(
    run: Run,
    text: Annotated[str, Argument(help="The text that the model reads, or the file of sound or vectors.")],
    output: Annotated[Path, Option("--output", "-o", help="The file to write.")] = Path("trace.glass"),
    target: Annotated[
        str | None, Option("--target", help="The translation that is read with it. [default: the model's own]")
    ] = None,
    generate: Annotated[
        int | None, Option("--generate", "-g", min=0, help="Let the model write so many tokens, and trace each draw.")
    ] = None,
    greedy: Greedy = False,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = None,
    presence_penalty: PresencePenalty = None,
    frequency_penalty: FrequencyPenalty = None,
    num_beams: NumBeams = None,
    length_penalty: LengthPenalty = None,
    no_repeat_ngram_size: NoRepeatNgramSize = None,
    min_new_tokens: MinNewTokens = None,
    seed: Annotated[int | None, Option("--seed", help="Of the draws. [default: 0]")] = None,
    points: Annotated[
        list[str] | None, Option("--points", help="Names or globs of the tensors to keep; may be repeated.")
    ] = None,
    budget_mb: Annotated[float, Option("--budget-mb", help="Megabytes of tensors to keep.")] = 256.0,
) -> None:
    """Write every number that a model computes about a text to a .glass file.

    Tensors that do not fit into the budget are computed again, from the weights, when somebody asks for them.
    """
    from glassformer.errors import ConfigError

    drawing = given(
        temperature=0.0 if greedy else temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        seed=seed,
    )
    searching = given(
        num_beams=num_beams,
        length_penalty=length_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        min_new_tokens=min_new_tokens,
    )
    if output.is_dir():
        raise ConfigError(f"{output}: is a folder, expected the name of a file")
    if drawing and generate is None:
        flag = next(iter(drawing)).replace("_", "-")
        raise ConfigError(f"--{flag} is for tokens that are drawn: say with --generate how many")
    if generate is not None and target is not None:
        raise ConfigError("--generate and --target exclude each other")
    keep: dict[str, Any] = {"points": tuple(points or ("*",)), "budget_mb": budget_mb}
    pipe = opened(run)
    if generate is None:
        seen = pipe.trace(text, target, **keep, **searching)
    else:
        seen = generated(pipe, text, {**drawing, **searching, "max_new_tokens": generate}, keep)
    seen.save(output, budget_mb=budget_mb)
    for line in told(seen, output):
        print(line, file=sys.stderr)


def generated(pipe: Pipeline, text: str, settings: dict[str, Any], keep: dict[str, Any]) -> Trace:
    """The trace of a text that the model goes on with; the whole text is printed."""
    from glassformer.lens.glass import Keep, trace_generation

    completion, seen = trace_generation(pipe.decoder, pipe.tokenizer, text, pipe.settings(settings), Keep(**keep))
    print(text + completion.text)
    return seen


def told(trace: Trace, output: Path) -> list[str]:
    """What was written, in sentences."""
    from glassformer.lens.glass.sizes import megabytes

    several = len(trace.tokens) > 1
    read = {name: "places" if f"{name}.vectors" in trace.replay.given else "tokens" for name in trace.tokens}
    tokens = " and ".join(f"{len(one)} {f'{name} ' * several}{read[name]}" for name, one in trace.tokens.items())
    held, lazy = len(getattr(trace.replay.points, "held", ())), len(getattr(trace.replay.points, "lazy", ()))
    later = f", {lazy} more when asked for" if lazy else ""
    said = [f"{output}: {tokens}, {held} tensors{later}, {megabytes(output.stat().st_size)}"]
    return [*trace.notes, *said]
