"""What importing costs: nothing that the call does not need."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import glassformer

HEAVY = ("torch", "numpy", "safetensors", "matplotlib", "gigatoken", "transformers")


def imported(program: str, *names: str) -> set[str]:
    """Which of the modules a fresh Python has imported after running `program`."""
    tell = f"import sys; print('imported', *[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{program}\n{tell}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


HELP = """
import sys
from glassformer.cli import main
sys.argv = ["glassformer", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
"""


@pytest.mark.parametrize(
    "program",
    [
        "import glassformer; glassformer.__version__",
        HELP.format(arguments=["--help"]),
        HELP.format(arguments=["train", "--help"]),
        "from glassformer.errors import GlassformerError",
    ],
    ids=["import", "help", "help of train", "errors"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(program):
    assert imported(program, *HEAVY) == set()


def test_tokens_are_shown_without_torch():
    assert "torch" not in imported(HELP.format(arguments=["tokens", "hello"]), *HEAVY)


def test_what_is_heard_is_described_without_torch():
    asked = "from glassformer.features import FeatureConfig; FeatureConfig.parse({'kind': 'mfcc', 'n_mels': 40})"
    assert "torch" not in imported(asked, *HEAVY)


def test_asking_for_a_name_imports_its_home():
    assert "torch" in imported("import glassformer; glassformer.load", "torch")


def test_every_public_name_is_there():
    for name in glassformer.__all__:
        assert getattr(glassformer, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        glassformer.lod  # noqa: B018


def test_train_is_the_function_and_not_a_room():
    importlib.import_module("glassformer.training")
    assert callable(glassformer.train)
    assert glassformer.train.__module__.startswith("glassformer.pipeline")
