"""``glassformer train``: files in, a run folder with a trained model out."""

from __future__ import annotations

import glob
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from glassformer.cli.flags import Encoding, LabelKey, LabelSeparator, SourceKey, TargetKey

# Flags by the recipe key that they set. What has no flag is set by --set KEY=VALUE.


def train(
    sources: Annotated[
        list[str] | None,
        Argument(
            help="Text, JSONL, CSV, TSV, Parquet (also .gz, .zst), manifests or folders of sound, .npz, globs, - for standard "
            "input, or a recipe.yaml."
        ),
    ] = None,
    out_dir: Annotated[
        Path | None, Option("--out-dir", "-o", "--save-dir", help="Run folder. [default: runs/NAME]")
    ] = None,
    demo: Annotated[
        bool,
        Option(
            "--demo",
            help="Train on what is built in: English documentation of Python, with `--demo translate` pairs, or with "
            "`--demo voice` commands that espeak-ng speaks.",
        ),
    ] = False,
    task: Annotated[
        str | None,
        Option(
            "--task",
            help="text, translate, classify, tag, fill, embed, transcribe or classify_vectors. [default: by the files]",
        ),
    ] = None,
    start_from: Annotated[
        str | None, Option("--start-from", "--init-from", help="Begin with the weights of this run or model folder.")
    ] = None,
    config: Annotated[Path | None, Option("--config", "-c", help="Recipe to begin with (YAML); flags win.")] = None,
    assignments: Annotated[list[str] | None, Option("--set", help="Any recipe key: --set optimiser.lr=0.02")] = None,
    print_config: Annotated[
        bool, Option("--print-config", help="Print every recipe key with its default and stop.")
    ] = False,
    minutes: Annotated[
        float, Option("--minutes", "--max-time", min=0.01, help="About how long to train when --steps is not given.")
    ] = 5.0,
    budget: Annotated[
        str | None,
        Option("--budget", help="Time for all, as 90s, 20m or 1h: the size of the model is chosen for it too."),
    ] = None,
    steps: Annotated[
        int | None, Option("--steps", "--max-steps", "--max-iters", "--iters", help="Training steps.")
    ] = None,
    batch_size: Annotated[int | None, Option("--batch-size", help="Windows in a step.")] = None,
    batch_tokens: Annotated[
        int | None,
        Option("--batch-tokens", "--max-tokens", help="The same for rows of data: tokens, padding included."),
    ] = None,
    grad_accum: Annotated[
        int | None, Option("--grad-accum", "--gradient-accumulation-steps", help="Portions that a step is computed in.")
    ] = None,
    preset: Annotated[
        str | None,
        Option(
            "--preset", help="modern, fastest, tiny, small, gpt2, llama, vaswani-base, small-seq2seq, bert-tiny, ..."
        ),
    ] = None,
    n_layers: Annotated[int | None, Option("--n-layers", "--layers", "--n-layer", help="Blocks.")] = None,
    d_model: Annotated[
        int | None, Option("--d-model", "--dim", "--n-embd", help="Width of the residual stream.")
    ] = None,
    n_heads: Annotated[int | None, Option("--n-heads", "--heads", "--n-head", help="Query heads.")] = None,
    n_kv_heads: Annotated[int | None, Option("--n-kv-heads", "--kv-heads", help="Key/value heads.")] = None,
    d_ff: Annotated[int | None, Option("--d-ff", "--ffn-dim", help="Width inside the MLP.")] = None,
    max_len: Annotated[int | None, Option("--max-len", "--context", "--block-size", help="Context in tokens.")] = None,
    positions: Annotated[
        str | None, Option("--positions", "--pos", help="none, sinusoidal, learned, rotary, alibi, relative.")
    ] = None,
    norm: Annotated[str | None, Option("--norm", help="layernorm or rmsnorm.")] = None,
    norm_place: Annotated[str | None, Option("--norm-place", help="pre or post.")] = None,
    mlp: Annotated[str | None, Option("--mlp", "--act", help="relu, gelu, silu, relu2, swiglu, geglu, ...")] = None,
    window: Annotated[int | None, Option("--window", help="Sliding attention window in tokens.")] = None,
    dropout: Annotated[float | None, Option("--dropout", help="Share of activations dropped in training.")] = None,
    tokenizer: Annotated[
        str | None, Option("--tokenizer", help="characters, words, bytes, bpe, or a folder with a tokenizer.json.")
    ] = None,
    vocab_size: Annotated[int | None, Option("--vocab-size", help="Size of the vocabulary.")] = None,
    optimiser: Annotated[
        str | None, Option("--optimiser", "--optimizer", help="muon (matrices; AdamW for the rest) or adamw.")
    ] = None,
    lr: Annotated[
        float | None,
        Option("--lr", "--learning-rate", help="Rate of the matrices inside blocks (muon), or of everything (adamw)."),
    ] = None,
    schedule: Annotated[str | None, Option("--lr-schedule", help="linear, cosine, wsd or constant.")] = None,
    warmup_steps: Annotated[
        int | None, Option("--warmup-steps", "--lr-warmup-steps", help="Steps of linear warm-up.")
    ] = None,
    weight_decay: Annotated[
        float | None,
        Option(
            "--weight-decay",
            help="Decoupled decay of the matrices inside blocks (muon), or of all but vectors (adamw).",
        ),
    ] = None,
    grad_clip: Annotated[
        float | None, Option("--grad-clip", "--max-grad-norm", help="Largest norm of the gradient.")
    ] = None,
    label_smoothing: Annotated[
        float | None, Option("--label-smoothing", help="Probability spread over all tokens.")
    ] = None,
    ema: Annotated[float | None, Option("--ema", help="Decay of a moving average of the weights.")] = None,
    eval_every: Annotated[
        int | None, Option("--eval-every", "--eval-interval", help="Steps between evaluations.")
    ] = None,
    sample_every: Annotated[int | None, Option("--sample-every", help="Steps between samples.")] = None,
    save_every: Annotated[int | None, Option("--save-every", help="Steps between checkpoints.")] = None,
    keep: Annotated[int | None, Option("--keep", "--save-total-limit", help="Checkpoints kept.")] = None,
    early_stop: Annotated[
        int | None, Option("--early-stop", help="Stop after so many evaluations without improvement.")
    ] = None,
    sample_prompt: Annotated[str | None, Option("--sample-prompt", help="What samples begin with.")] = None,
    film: Annotated[int | None, Option("--film", help="Film what forms inside the model every so many steps.")] = None,
    probe: Annotated[
        list[str] | None,
        Option(
            "--probe", help="What is filmed, repeatable; a pair as 'SOURCE ||| TARGET'. [default: the first held back]"
        ),
    ] = None,
    validation: Annotated[
        list[str] | None, Option("--val-data", help="Files to validate on, instead of a split.")
    ] = None,
    text_key: Annotated[str | None, Option("--text-key", help="Column or key that holds the text.")] = None,
    source_key: SourceKey = None,
    target_key: TargetKey = None,
    label_key: LabelKey = None,
    label_separator: LabelSeparator = None,
    path_key: Annotated[str | None, Option("--path-key", help="Column that names files of sound or vectors.")] = None,
    name_pattern: Annotated[
        str | None, Option("--name-pattern", help="What names of files tell, such as '{text}_{speaker}_{take}'.")
    ] = None,
    hold_back: Annotated[
        str | None, Option("--hold-back", help="Utterances to validate on by a field, such as speaker=theo.")
    ] = None,
    encoding: Encoding = None,
    compile: Annotated[str | None, Option("--compile", help="auto, yes or no.")] = None,
    device: Annotated[str | None, Option("--device", help="auto, cpu, cuda or mps.")] = None,
    dtype: Annotated[str | None, Option("--dtype", help="auto, float32 or bfloat16.")] = None,
    threads: Annotated[int | None, Option("--threads", help="CPU threads.")] = None,
    seed: Annotated[int | None, Option("--seed", help="Seed of everything random.")] = None,
    log_to: Annotated[
        str | None,
        Option("--log-to", "--report-to", help="Loggers beside log.jsonl: tensorboard, wandb, trackio, with commas."),
    ] = None,
    nproc: Annotated[
        int | None, Option("--nproc", help="Processes that train together. [default: one for each GPU]")
    ] = None,
    allow_changed: Annotated[
        bool, Option("--allow-changed", help="Go on although recipe, files or tokenizer have changed since.")
    ] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Say what it would take, as `glassformer plan` does, and stop.")
    ] = False,
    as_json: Annotated[bool, Option("--json", help="With --dry-run: print JSON.")] = False,
) -> None:
    """Train a model on your own files: on text, on pairs, on labelled texts or tagged sentences, on sound or vectors.

    Whatever you leave open is decided from the data and the machine, printed with its reason, and written to recipe.yaml.
    Run the same command again to go on after an interruption.
    """
    flags = {
        "task": task,
        "start_from": start_from,
        "preset": preset,
        "seed": seed,
        "data.validation": validation or None,
        "data.text_key": text_key,
        "data.source_key": source_key,
        "data.target_key": target_key,
        "data.label_key": label_key,
        "data.label_separator": label_separator,
        "data.path_key": path_key,
        "data.name_pattern": name_pattern,
        "data.hold_back": hold_back,
        "data.encoding": encoding,
        **tokenizer_wish(tokenizer),
        "tokenizer.vocab_size": vocab_size,
        "model.n_layers": n_layers,
        "model.d_model": d_model,
        "model.n_heads": n_heads,
        "model.n_kv_heads": n_kv_heads,
        "model.d_ff": d_ff,
        "model.max_len": max_len,
        "model.positions": positions,
        "model.norm": norm,
        "model.norm_place": norm_place,
        "model.mlp": mlp,
        "model.window": window,
        "model.dropout": dropout,
        "optimiser.name": optimiser,
        "optimiser.lr": lr,
        "optimiser.schedule": schedule,
        "optimiser.warmup_steps": warmup_steps,
        "optimiser.weight_decay": weight_decay,
        "optimiser.grad_clip": grad_clip,
        "optimiser.label_smoothing": label_smoothing,
        "optimiser.ema": ema,
        "film.every": film,
        "film.probes": probe or None,
        "loop.steps": steps,
        "loop.batch_size": batch_size,
        "loop.batch_tokens": batch_tokens,
        "loop.grad_accum": grad_accum,
        "loop.eval_every": eval_every,
        "loop.sample_every": sample_every,
        "loop.save_every": save_every,
        "loop.keep": keep,
        "loop.early_stop": early_stop,
        "loop.sample_prompt": sample_prompt,
        "loop.compile": compile,
        "loop.device": device,
        "loop.dtype": dtype,
        "loop.threads": threads,
        "loop.loggers": log_to,
    }
    from glassformer.config import parse_assignments, read_mapping, set_dotted
    from glassformer.errors import ConfigError

    named = built_in(sources or []) if demo else list(sources or [])
    recipes = [name for name in named if Path(name).suffix in (".yaml", ".yml")]
    if recipes and (config or len(named) > 1):
        raise ConfigError(SEVERAL)
    if recipes:
        config, named = Path(recipes[0]), []
    if as_json and not dry_run:
        raise ConfigError("--json prints a plan as JSON, and training prints none: add --dry-run, or leave it out")
    wishes: dict[str, Any] = read_mapping(config) if config else {}
    for key, value in flags.items():
        if value is not None:
            set_dotted(wishes, key, value)
    for key, value in parse_assignments(assignments or []).items():
        set_dotted(wishes, key, value)
    if named:
        set_dotted(wishes, "data.sources", named)
    if print_config:
        show_keys()
        return
    run(wishes, out_dir, minutes, allow_changed, nproc, budget, ("json" if as_json else "text") if dry_run else None)


def run(
    wishes: dict[str, Any],
    out_dir: Path | None,
    minutes: float,
    allow_changed: bool = False,
    nproc: int | None = None,
    budget: str | None = None,
    dry_run: str | None = None,
) -> None:
    """Train, in as many processes as are asked for or were started, and tell the commands that come next.

    With `dry_run`, "text" or "json", nothing is trained or written, and the plan is printed.
    """
    from glassformer.errors import ConfigError
    from glassformer.machine import began
    from glassformer.training import Silence, check_wishes, screen_for, train_run
    from glassformer.training.distributed.launch import find_seat, how_many, launch, taking_part
    from glassformer.training.plan.budget import Budget, seconds_in

    asked = check_wishes(wishes)
    film = asked.get("film") or {}
    if film.get("probes") and film.get("every") is None:
        raise ConfigError(
            "--probe names what to film, and nothing is filmed: add --film 50, or another number of steps"
        )
    sources = (asked.get("data") or {}).get("sources")
    if not sources:
        raise ConfigError("nothing to train on: name a file, a folder or -, or use --demo")
    folder = out_dir or Path("runs") / name_of(sources[0])
    time_for_all = None if budget is None else Budget(seconds_in(budget), began())
    if dry_run is not None:
        from glassformer.cli.plan import tell

        if nproc is not None:
            raise ConfigError(f"--nproc {nproc}: a plan is that of one process; leave it out")
        tell(wishes, folder, minutes, time_for_all, dry_run == "json", allow_changed)
        return
    if is_spoken_demo(wishes):
        wishes = spoken_demo(wishes, folder)
    seat = find_seat()
    n = how_many(nproc, (asked.get("loop") or {}).get("device"), seat)
    if n > 1:
        launch(n, sys.argv[1:])
        return
    if seat is None:
        screen = screen_for(sys.stderr)
        trained = train_run(
            wishes, folder, minutes=minutes, screen=screen, allow_changed=allow_changed, budget=time_for_all
        )
    else:
        with taking_part(seat) as topology:
            screen = screen_for(sys.stderr) if topology.is_first else Silence()
            trained = train_run(
                wishes,
                folder,
                minutes=minutes,
                screen=screen,
                topology=topology,
                allow_changed=allow_changed,
                budget=time_for_all,
            )
        if seat.rank:
            return
    for line in trained.task.next_commands(shlex.quote(str(folder))):
        print(line)


def built_in(names: list[str]) -> list[str]:
    """The source that ``--demo`` stands for, or that it stands for with one of these names. Raises ConfigError."""
    from glassformer.data import BUILT_IN, BUILT_IN_PAIRS
    from glassformer.errors import ConfigError, nearest

    known = {**BUILT_IN, **BUILT_IN_PAIRS, SPOKEN_DEMO.removeprefix("demo:"): None}
    if not names:
        return [f"demo:{next(iter(known))}"]
    if len(names) > 1 or Path(names[0]).exists() or Path(names[0]).suffix:
        raise ConfigError(SEVERAL)
    if names[0] not in known:
        raise ConfigError(f"--demo {names[0]}: nothing built in has this name{nearest(names[0], known)}")
    return [f"demo:{names[0]}"]


def is_spoken_demo(wishes: dict[str, Any]) -> bool:
    """Whether what is trained on has to be spoken first."""
    sources = (wishes.get("data") or {}).get("sources")
    return sources in (SPOKEN_DEMO, [SPOKEN_DEMO])


def spoken_demo(wishes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The wishes of a run on commands that are spoken into its folder, where they are not there yet."""
    from glassformer.config import set_dotted
    from glassformer.data.speaking import speak_commands

    train, unseen = speak_commands(folder / SPOKEN, lambda said: print(said, file=sys.stderr))
    wishes = {**wishes, "data": {**(wishes.get("data") or {}), "sources": [str(train)], "validation": [str(unseen)]}}
    set_dotted(wishes, "task", wishes.get("task") or "transcribe")
    return wishes


SPOKEN_DEMO, SPOKEN = "demo:voice", "spoken"  # the name of it, and its folder inside that of the run
SEVERAL = "name either files to train on, or one recipe, or --demo, not several of them"


def tokenizer_wish(asked: str | None) -> dict[str, Any]:
    """A kind of tokenizer to train, or the folder of one that exists."""
    if asked is None:
        return {}
    exists = Path(asked).exists() and asked not in ("characters", "words", "bytes", "bpe")
    return {"tokenizer.path": asked} if exists else {"tokenizer.kind": asked}


def name_of(source: str) -> str:
    """The name of a run on this source: ``my.txt.gz`` gives ``my``, and so does ``my/*.txt``."""
    if source == "-":
        return "stdin"
    plain = [part for part in Path(source.removeprefix("demo:")).parts if not glob.has_magic(part)]
    return (plain[-1] if plain else "").strip("/").split(".")[0] or "run"


def show_keys() -> None:
    """Print every key that --set and a recipe may hold, with type and default."""
    from glassformer.training import Recipe
    from glassformer.training.recipe import keys

    for key, kind, default, about in keys(Recipe):
        print(f"{key:<32} {kind:<28} {default:<12} {about}".rstrip())
