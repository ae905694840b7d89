"""What README.md, the recipes and the Makefile tell people to type is typed here, in small."""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from glassformer.cli.app import app
from glassformer.training import Recipe
from running import QUICK, SENTENCES, command, swift
from spoken import tone, write_wav

__all__ = ["command", "swift"]

pytestmark = pytest.mark.usefixtures("swift")

ROOT = Path(__file__).parents[1]
OF_ROWS = (*QUICK[:6], *QUICK[10:], "--batch-tokens", "200")  # rows are as long as they are
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def blocks(language: str) -> list[str]:
    """The contents of the README's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The arguments of every ``glassformer`` line."""
    lines = (shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("glassformer "))
    return [words[1:] for words in lines]


def pairs(n_rows: int) -> list[tuple[str, str]]:
    """Sentences and what could be their translations."""
    return [(f"Where is the {what}, number {n}?", f"¿Dónde está {what} {n}?") for n in range(n_rows) for what in "ab"]


def table(rows: list[tuple[str, str]]) -> str:
    return "".join(f"{first}\t{second}\n" for first, second in rows)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with what the README speaks of."""
    (tmp_path / "my.txt").write_text(SENTENCES * 60 + "Once upon a time newest oldest creative\n" * 9)
    (tmp_path / "questions.txt").write_text("The cat\nA dog\n")
    (tmp_path / "pairs.tsv").write_text(table(pairs(30)), encoding="utf-8")
    (tmp_path / "reviews.tsv").write_text(
        table([(f"a film to remember, number {n}", "good" if n % 2 else "bad") for n in range(40)])
    )
    write_sounds(tmp_path / "recordings")
    (tmp_path / "manifest.csv").write_text(
        "path,label\n"
        + "".join(f"recordings/{path.name},{path.name[0]}\n" for path in (tmp_path / "recordings").iterdir())
    )
    write_wav(tmp_path / "my.wav")
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.setattr("glassformer.training.plan.budget.LADDER", ((1, 16), (1, 32)))  # the sizes that a budget tries
    monkeypatch.setattr("glassformer.training.plan.budget.MOST_TRIAL", 20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_sounds(folder: Path) -> None:
    """Recordings whose names say what two speakers said, each of two digits eight times."""
    for number, digit in enumerate("27"):
        for pitch, speaker in ((200.0, "ann"), (300.0, "bob")):
            for take in range(8):
                write_wav(folder / f"{digit}_{speaker}_{take}.wav", tone(0.3, pitch * (1 + number) + 5 * take))


def elsewhere(arguments: list[str]) -> bool:
    """Whether a command needs what is not here: published weights, or a program that speaks."""
    speaks = arguments[:3] == ["train", "--demo", "voice"] and shutil.which("espeak-ng") is None
    return speaks or "whisper-tiny.en" in arguments


def in_small(arguments: list[str]) -> list[str]:
    """The same command with a smaller model and fewer steps."""
    if arguments[0] == "train" and "--print-config" not in arguments:
        of_rows = arguments[1].endswith((".tsv", ".csv", "recordings/")) or "voice" in arguments
        return [*arguments, *(OF_ROWS if of_rows else QUICK)]
    if arguments[0] in ("tokenizer", "data") and "--vocab-size" in arguments:
        return [*arguments, "--vocab-size", "270"]
    return arguments


def test_every_command_of_the_readme_runs(command, folder):
    found = commands("\n".join(blocks("sh")))
    assert {words[0] for words in found} == set(get_command(app).commands)  # type: ignore[attr-defined]
    for arguments in found:
        if elsewhere(arguments):
            continue
        if "model.gguf" in arguments and not Path("model.gguf").exists():  # with room for a question and an answer
            assert command("train", "my.txt", *QUICK, "--max-len", 64, "-o", "runs/talker").code == 0
            assert command("export", "runs/talker", "-o", "model.gguf").code == 0
        done = command(*in_small(arguments), stdin=b"Hello\n" if arguments[0] == "chat" else b"")
        assert done.code == 0, (arguments, done.err)
        assert done.out or "-o" in arguments, arguments  # what is written to a file is told on standard error


def test_the_python_of_the_readme_runs(command, folder, capsys):
    assert command("train", "my.txt", *QUICK).code == 0
    for number, block in enumerate(blocks("python")):
        exec(compile(block, f"README.md, Python block {number}", "exec"), {})
    assert "torch.Size([1, 2, 16, 16])" in capsys.readouterr().out


def write_data(name: str, task: str) -> None:
    """What a recipe wants to find under this name, in small."""
    if task in ("transcribe", "classify_vectors"):
        write_sounds(Path(name))
        return
    path, n_rows = Path(name), 20 if "val" in name or "dev" in name or "other" in name else 40
    path.parent.mkdir(parents=True, exist_ok=True)
    if task in ("text", "fill"):
        file = path if path.suffix else path / "one.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(SENTENCES * 60)
    elif task == "classify":
        path.write_text(table([(f"a {'warm' if n % 2 else 'cold'} film, {n}", str(n % 2)) for n in range(n_rows)]))
    else:
        rows, side = pairs(n_rows), {".de": 0, ".en": 1}.get(Path(path.stem).suffix)
        content = table(rows) if side is None else "".join(f"{row[side]}\n" for row in rows)
        path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())


def train_in_small(command, path: Path) -> str:
    """Train a recipe, and before it the one it starts from. Returns the run folder."""
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "start_from" in recipe:
        train_in_small(command, path.with_name(f"{Path(recipe['start_from']).name}.yaml"))
    task, data = recipe.get("task", "text"), recipe["data"]
    for names in (data["sources"], data.get("validation", [])):
        for name in [names] if isinstance(names, str) else names:
            write_data(name, task)
    tokenizer = recipe.get("tokenizer") or {}
    if "path" in tokenizer:
        specials = ("--special-token", "<|start|>", "--special-token", "<|mask|>")
        made = command("tokenizer", "train", data["sources"], "--kind", "words", *specials, "-o", tokenizer["path"])
        assert made.code == 0, made.err
    size = ("--vocab-size", 270) if tokenizer.get("vocab_size") else ()
    flags = QUICK if task in ("text", "fill") else OF_ROWS
    done = command("train", path, *flags, *size, "--out-dir", f"runs/{path.stem}")
    assert done.code == 0, done.err
    return f"runs/{path.stem}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_trains(command, folder, path):
    run = train_in_small(command, path)
    assert Recipe.read(folder / run / "recipe.yaml").loop.steps == 6


def test_the_commands_of_the_demo_are_commands():
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(BIN)/", "").replace("\t", "")
    found = commands(text)
    assert [words[0] for words in found] == ["train", "generate", "explain"]
    for verb, *arguments in found:
        get_command(app).commands[verb].make_context(verb, arguments)  # type: ignore[attr-defined]


def test_every_file_that_the_readme_links_to_is_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target
