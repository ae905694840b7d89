"""``export``, ``import``, ``merge``, ``compare`` and ``info``: what they print, what they leave, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glassformer.checkpoints import load_model, save_model


@pytest.fixture
def quick(monkeypatch):
    """Exports that only our own reader looks at, which spares the seconds that another one takes to load."""
    for room in ("to_hf", "to_gguf"):
        monkeypatch.setattr(f"glassformer.export.{room}.find_spec", lambda name: None)


@pytest.fixture
def model(trained, tmp_path):
    """A copy of the model of a run, which a test may change."""
    found = load_model(trained / "best")
    save_model(tmp_path / "model", found.model, found.tokenizer, chat_template="{{ messages }}")
    return tmp_path / "model"


def test_export_says_what_it_wrote_and_how_it_agrees(command, quick, trained, tmp_path):
    done = command("export", trained, "--to", "hf", "-o", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    assert f"{trained} -> out (hf, float32, " in done.out
    assert "largest difference" in done.out
    assert "24 of 24" in done.out
    assert str(tmp_path / "out" / "export.json") in done.out
    without_paths = (row for row in done.out.splitlines() if str(tmp_path) not in row and str(trained) not in row)
    assert max(map(len, without_paths)) <= 80
    report = json.loads(command("export", trained, "-o", tmp_path / "out", "--json", "--dtype", "bfloat16").out)
    assert report == json.loads((tmp_path / "out" / "export.json").read_text())
    assert (report["numbers"], report["checks"][0]["ok"]) == ("bfloat16", True)


def test_export_fails_with_one_sentence_where_the_file_is_not_the_model(command, quick, trained, tmp_path, monkeypatch):
    from glassformer.models import build_model

    monkeypatch.setattr(
        "glassformer.export.to_hf.load_model",
        lambda path, dtype: type("Read", (), {"model": build_model(load_model(path).model.config, seed=9).eval()}),
    )
    done = command("export", trained, "--to", "hf", "-o", tmp_path / "out")
    assert done.code == 1
    assert "what was written does not agree with the model" in done.sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--to", "onx", "-o", "m"), 2, "did you mean 'onnx'"),
        (("-o", "m.bin"), 2, "no format ends in .bin"),
        (("--to", "hf", "-o", "m.gguf"), 2, "writes a folder"),
        (("-o", "m.gguf", "--dtype", "float16"), 2, "choose --kind"),
        (("--to", "hf"), 2, "missing option '--out'"),
    ],
)
def test_export_refuses_in_one_sentence(command, trained, tmp_path, monkeypatch, flags, code, said):
    monkeypatch.chdir(tmp_path)
    done = command("export", trained, *flags)
    assert done.code == code
    assert said in done.sentence
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_of_letters_goes_out_as_gguf_with_what_is_to_be_known_of_it(command, trained, tmp_path):
    done = command("export", trained, "-o", tmp_path / "m.gguf")
    assert (done.code, done.err) == (0, "")
    assert "note: " in done.out
    assert "24 of 24" in done.out


def test_import_tells_what_came_in(command, quick, model, tmp_path):
    done = command("import", model, "-o", tmp_path / "in")
    assert done.code == 0
    assert "family qwen3, " in done.out
    assert "tokenizer characters, " in done.out
    assert "chat template yes" in done.out
    assert "left out: nothing" in done.out
    assert (tmp_path / "in" / "chat_template.jinja").read_text() == "{{ messages }}"
    assert command("compare", model, tmp_path / "in", "--tolerance", "0").code == 0
    assert command("import", tmp_path / "nothing", "-o", tmp_path / "x").code == 1


def test_merge_writes_the_mean(command, quick, trained, model, tmp_path):
    done = command("merge", trained, model, "-o", tmp_path / "out", "--weights", "3,1")
    assert (done.code, done.err) == (0, "")
    assert "0.75 × " in done.out
    assert "largest distance of a number from the first model's: 0\n" in done.out
    assert command("compare", trained, tmp_path / "out", "--tolerance", "0").code == 0
    assert "numbers with commas" in command("merge", trained, model, "-o", tmp_path / "x", "--weights", "a,b").sentence
    assert command("merge", trained, "-o", tmp_path / "x").code == 2


def test_compare_tells_equal_models_from_others(command, trained, model, tmp_path):
    done = command("compare", trained, model, "The cat", "A dog")
    assert (done.code, done.out.splitlines()[-1]) == (0, "equal")
    found = load_model(model)
    found.model.head.linear.weight.requires_grad_(False)[0] += 0.3
    save_model(model, found.model, found.tokenizer)
    done = command("compare", trained, model)
    assert done.code == 1
    assert "head.linear" in done.out
    assert done.out.splitlines()[-1] != "equal"
    assert max(map(len, done.out.splitlines())) <= 80
    told = json.loads(command("compare", trained, model, "--json").out)
    assert told["equal"] is False
    assert told["weights"]["tensors"][0]["name"] == "head.linear.weight"
    assert command("compare", trained, model, "--tolerance", "5").code == 0


def test_info_tells_how_it_is_stored(command, model, trained):
    out = command("info", model).out
    assert "numbers in 14 tensors of float32" in out
    assert "characters; special: <|pad|> " in out
    assert "for chat, yes" in out
    assert "what      run folder" in command("info", trained).out
    told = json.loads(command("info", model, "--json").out)
    assert told["stored"][0]["type"] == "float32"
    assert told["family"] == "qwen3"
    assert told["files"]["model.safetensors"] > 1000
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).unlink()
    assert "none, so that no text can be read" in command("info", model).out


def test_info_of_a_trace_and_of_files_that_are_no_model(command, trained, tmp_path):
    trace = tmp_path / "cat.glass"
    assert command("trace", trained, "The cat", "-o", trace).code == 0
    out = command("info", trace).out
    assert "trace (.glass)" in out
    assert "task text, decoder of 1 layers of width 16" in out
    other = Path(tmp_path / "notes.txt")
    other.write_text("hello")
    assert "expected a model folder" in command("info", other).sentence
    assert command("info", tmp_path / "nothing").code == 1
