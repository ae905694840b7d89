"""Thousands of folders that chance has damaged: a model or one sentence, at once, in little memory, and nothing of them runs."""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glassformer.checkpoints import save_model
from glassformer.checkpoints.open import open_model
from glassformer.errors import GlassformerError
from glassformer.models import PRESETS, preset
from mutating import MUTATIONS, WEIGHTS, mutate
from shapes import KINDS

SECONDS = 1.0
MEGABYTES = 64  # beyond the size of the folder
SQUARE = {"d_model": 16, "n_layers": 2, "n_heads": 4, "d_head": 4, "d_value": 4, "n_kv_heads": 4, "d_ff": 28}
MODELS: dict[str, dict[str, Any]] = {
    "as a public family": SQUARE,
    **{f"preset {name}": {**preset(name), **SQUARE, "max_len": 32} for name in PRESETS},
    **KINDS,
}


@pytest.fixture(scope="session")
def originals(random_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A sound folder of each kind."""
    folder = tmp_path_factory.mktemp("originals")
    for name, fields in MODELS.items():
        save_model(folder / name, random_model(**fields))
    families = {open_model(folder / name).family for name in MODELS}
    assert families >= {"qwen3", "llama", "gpt2", "glassformer"}, families
    return [folder / name for name in MODELS]


def memory(field: str) -> int:
    """Bytes of this process, by a name of the kernel's."""
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith(field))


def sentence(folder: Path) -> str | None:
    """With what a folder is refused, None where it opens."""
    try:
        open_model(folder)
    except GlassformerError as error:
        return str(error)
    return None


def examine(folders: list[Path], at: Path, seeds: range) -> Counter[str]:
    """Open a mutation of a folder for each seed. Returns how many opened and how many were refused, by the mutation."""
    found: Counter[str] = Counter()
    is_linux = sys.platform.startswith("linux")
    for seed in seeds:
        draw = random.Random(seed)
        folder = at / f"case{seed}"
        shutil.copytree(draw.choice(folders), folder)
        name = mutate(folder, draw)
        size = sum(path.stat().st_size for path in folder.iterdir())
        modules = set(sys.modules)
        before = 0
        if is_linux:
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before = memory("VmRSS")
        began = time.thread_time()
        said = sentence(folder)
        assert time.thread_time() - began < SECONDS, (seed, name)
        assert said is None or ("\n" not in said and str(at) in said), (seed, name, said)
        found["opened" if said is None else f"refused: {name}"] += 1
        if is_linux:
            assert memory("VmHWM") - before < size + MEGABYTES * 2**20, (seed, name)
        assert not (folder / "ran").exists(), (seed, name)
        assert not {module for module in set(sys.modules) - modules if module.endswith("_x")}, (seed, name)
        shutil.rmtree(folder)
    return found


def test_a_few_hundred_damaged_folders(originals: list[Path], tmp_path: Path) -> None:
    found = examine(originals, tmp_path, range(300))
    assert found["opened"] > 10
    assert {name for name in MUTATIONS if found[f"refused: {name}"]} >= MUTATIONS.keys() - {"code", "not a number"}


@pytest.mark.slow
def test_two_thousand_damaged_folders(originals: list[Path], tmp_path: Path) -> None:
    found = examine(originals, tmp_path, range(1000, 3000))
    print(f"{found['opened']} opened, {found.total() - found['opened']} refused")
    assert found.total() == 2000


def test_the_watch_sees_what_it_watches_for(
    originals: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each promise broken on purpose, so that the tests above are known to notice."""

    def stumble(*_: Any, **__: Any) -> Any:
        raise KeyError("x")

    def dawdle(folder: Path, **_: Any) -> Any:
        end = time.thread_time() + SECONDS + 0.1
        while time.thread_time() < end:
            pass
        raise GlassformerError(f"{folder}: no")

    def devour(folder: Path, **_: Any) -> Any:
        assert bytearray(range(256)) * (
            1 << 21
        )  # far beyond: where memory is short, the kernel takes pages back meanwhile
        raise GlassformerError(f"{folder}: no")

    def run(folder: Path, **_: Any) -> Any:
        (folder / "ran").touch()
        raise GlassformerError(f"{folder}: no")

    for fault in (stumble, dawdle, run, *([devour] if sys.platform.startswith("linux") else [])):
        monkeypatch.setattr(sys.modules[__name__], "open_model", fault)
        with pytest.raises((AssertionError, KeyError)):
            examine(originals, tmp_path / fault.__name__, range(1))


def test_a_header_that_is_as_large_as_it_may_be_is_refused_in_time(originals: list[Path], tmp_path: Path) -> None:
    folder = shutil.copytree(originals[0], tmp_path / "model")
    text = b"{" + b" " * 3_000_000 + b"}"
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text)
    began = time.thread_time()
    with pytest.raises(GlassformerError, match="tensors"):
        open_model(folder)
    assert time.thread_time() - began < SECONDS
