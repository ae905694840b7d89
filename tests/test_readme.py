"""What README.md, the recipes and the Makefile tell people to type is typed here, in small."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.main import get_command

from glassformer.cli.app import app
from glassformer.training import Recipe
from running import QUICK, SENTENCES, command, swift

__all__ = ["command", "swift"]

pytestmark = pytest.mark.usefixtures("swift")

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def blocks(language: str) -> list[str]:
    """The contents of the README's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The arguments of every ``glassformer`` line."""
    lines = (shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("glassformer "))
    return [words[1:] for words in lines]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with what the README speaks of."""
    (tmp_path / "my.txt").write_text(SENTENCES * 60 + "Once upon a time newest oldest creative\n" * 9)
    (tmp_path / "questions.txt").write_text("The cat\nA dog\n")
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_small(arguments: list[str]) -> list[str]:
    """The same command with a smaller model and fewer steps."""
    if arguments[0] == "train" and "--print-config" not in arguments:
        return [*arguments, *QUICK]
    if arguments[0] == "tokenizer" and "--vocab-size" in arguments:
        return [*arguments, "--vocab-size", "270"]
    return arguments


def test_every_command_of_the_readme_runs(command, folder):
    found = commands("\n".join(blocks("sh")))
    assert {words[0] for words in found} == set(get_command(app).commands)  # type: ignore[attr-defined]
    for arguments in found:
        done = command(*in_small(arguments))
        assert done.code == 0, (arguments, done.err)
        assert done.out, arguments


def test_the_python_of_the_readme_runs(command, folder, capsys):
    assert command("train", "my.txt", *QUICK).code == 0
    for number, block in enumerate(blocks("python")):
        exec(compile(block, f"README.md, Python block {number}", "exec"), {})
    assert "torch.Size([1, 2, 16, 16])" in capsys.readouterr().out


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_trains(command, folder, path):
    done = command("train", path, "--set", "data.sources=my.txt", *QUICK, "--out-dir", "runs/recipe")
    assert done.code == 0, done.err
    assert Recipe.read(folder / "runs" / "recipe" / "recipe.yaml").loop.steps == 6


def test_the_commands_of_the_demo_are_commands():
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(BIN)/", "").replace("\t", "")
    found = commands(text)
    assert [words[0] for words in found] == ["train", "generate", "explain"]
    for verb, *arguments in found:
        get_command(app).commands[verb].make_context(verb, arguments)  # type: ignore[attr-defined]


def test_every_file_that_the_readme_links_to_is_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target
