"""The table of verbs."""

from __future__ import annotations

import typer

from glassformer.cli import (
    chat,
    classify,
    compare,
    data,
    doctor,
    embed,
    evaluate,
    explain,
    export,
    fill,
    film,
    generate,
    import_,
    info,
    learn,
    merge,
    plan,
    plot,
    prove,
    step,
    tokenizer,
    tokens,
    trace,
    train,
    transcribe,
    translate,
    verify,
)


def with_dashes(name: str) -> str:
    """``max_steps`` as ``max-steps``: names of flags may be written either way."""
    return name.replace("_", "-")


app = typer.Typer(
    name="glassformer",
    help="Train, run and see through transformers: any shape, your data, your laptop, then your cluster.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": with_dashes},
    rich_markup_mode=None,
)


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from glassformer import __version__

        typer.echo(f"glassformer {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=show_version, is_eager=True, help="Print the version."),
) -> None:
    """Flags of the command itself rather than of a verb."""


VERBS = {
    "train": train.train,
    "plan": plan.plan,
    "generate": generate.generate,
    "chat": chat.chat,
    "translate": translate.translate,
    "transcribe": transcribe.transcribe,
    "classify": classify.classify,
    "embed": embed.embed,
    "fill": fill.fill,
    "evaluate": evaluate.evaluate,
    "explain": explain.explain,
    "plot": plot.plot,
    "trace": trace.trace,
    "verify": verify.verify,
    "step": step.step,
    "prove": prove.prove,
    "film": film.film,
    "info": info.info,
    "compare": compare.compare,
    "import": import_.import_,
    "export": export.export,
    "merge": merge.merge,
    "learn": learn.learn,
    "tokens": tokens.tokens,
    "doctor": doctor.doctor,
}

for name, verb in VERBS.items():
    app.command(name)(verb)
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(data.app, name="data")
