"""Seeing through models that read vectors: traces, replays, files, changes, proofs, descriptions; and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from glass_files import rewritten
from glassformer.errors import CheckpointError, ConfigError, DataError
from glassformer.export import export_model
from glassformer.export.outputs import compare_outputs
from glassformer.lens import ablate_each_head, describe, edited, explain
from glassformer.lens.glass import open_glass, trace_text
from glassformer.lens.glass.vectors import TASKS
from glassformer.lens.prove import prove
from glassformer.lens.recording import record
from glassformer.lens.views import VIEWS
from shapes import EVERY_KIND, HEARING, KINDS, vectors_of
from sounds import features, tokenizer
from traces import TINY, trace_ids

SLOW = ("compiled", "processes")
SHORT = ("twelve signs", "nineteen signs here", "five!")
WRITING = [kind for kind, fields in HEARING.items() if fields["shape"] == "encoder_decoder"]


@pytest.mark.parametrize("strides", [(), (2,), (1, 3)], ids=str)
@pytest.mark.parametrize("kind", HEARING)
def test_every_scheme_and_stride_is_replayed_with_padding_and_without(random_model, kind, strides):
    for scheme in ("sinusoidal", "rotary", "relative"):
        fields = {**HEARING[kind], "positions": scheme, "vectors": {"size": 5, "strides": strides}}
        model = random_model(**{**TINY, **fields})
        vectors = vectors_of(model, torch.arange(18).view(2, 9))
        at = torch.stack([torch.where(torch.arange(9) < length, torch.arange(9), -1) for length in (4, 9)])
        for places in (None, at):
            if model.config.shape == "encoder":
                replay = record(model, vectors, at=places)
            else:
                replay = record(model, torch.arange(8).view(2, 4), source=vectors, source_at=places)
            assert [one.name for one in replay.compare() if not one.ok] == []


@pytest.mark.parametrize("kind", HEARING)
def test_a_recipe_that_is_wrong_by_a_little_is_noticed(random_model, kind):
    trace = trace_ids(random_model(**{**TINY, **HEARING[kind]}), ids=(1, 0, 2, 1, 2, 1))
    names = [name for name in trace.replay.points if ".embedding." in name or name.startswith("ctc.")]
    assert len(names) >= 3
    for name in names:
        whole = dict(trace.replay.points)
        changed = whole[name].clone(memory_format=torch.contiguous_format)
        changed.view(-1)[int(changed.abs().argmax())] *= 1 + 1e-4
        replay = replace(trace.replay, points={**whole, name: changed})
        wrong = {one.name for one in replace(trace, replay=replay).verify().failures}
        assert name in wrong, name


@pytest.mark.parametrize("kind", HEARING)
def test_a_file_holds_the_vectors_and_verifies_from_them_alone(random_model, tmp_path, kind):
    trace = trace_ids(random_model(**{**TINY, **HEARING[kind]}), ids=(1, 0, 2, 1, 2, 1))
    path = tmp_path / "trace.glass"
    trace.save(path)
    opened = open_glass(path)
    assert torch.equal(opened.replay.given["encoder.vectors"], trace.replay.given["encoder.vectors"])
    assert opened.tokens == trace.tokens
    assert opened.verify().ok


@pytest.mark.parametrize("wrong", ["size", "axes", "places"])
def test_files_whose_vectors_the_model_cannot_read_are_damaged(random_model, tmp_path, wrong):
    path, other = tmp_path / "trace.glass", tmp_path / "other.glass"
    trace_ids(random_model(**{**TINY, **HEARING["vectors to tokens"]})).save(path)

    def change(parts):
        tensors, name = parts[1], "given.encoder.vectors"
        if wrong == "size":
            tensors[name] = tensors[name][..., :3].contiguous()
        elif wrong == "axes":
            tensors[name] = tensors[name][0].contiguous()
        else:
            tensors["given.encoder.vectors_at"] = tensors["given.encoder.vectors_at"][:, :2].contiguous()

    rewritten(path, other, change)
    with pytest.raises(CheckpointError, match=r"other.glass: is damaged.*encoder.vectors"):
        open_glass(other)


def test_a_changed_vector_of_a_file_fails_its_digest_and_its_recipe(random_model, tmp_path):
    path, other = tmp_path / "trace.glass", tmp_path / "other.glass"
    trace_ids(random_model(**{**TINY, **HEARING["vectors to tokens"]})).save(path)

    def change(parts):
        tensors = parts[1]
        changed = tensors["given.encoder.vectors"].clone()
        changed[0, 2, 1] += 0.01
        tensors["given.encoder.vectors"] = changed

    rewritten(path, other, change)
    found = open_glass(other).verify()
    assert "encoder.embedding.vectors" in {one.name for one in found.failures}
    assert any("given.encoder.vectors" in check.label for check in found.checks if not check.ok)


@pytest.mark.parametrize("kind", HEARING)
def test_every_proof_holds_or_says_in_one_sentence_why_it_cannot_be_made(random_model, kind):
    found = prove(random_model(**HEARING[kind]), texts=SHORT, skip=SLOW)
    assert found.holds, found.render()
    held = {proof.name for proof in found.having("holds")}
    assert {"batched", "causal", "watched", "saved"} <= held
    if kind in WRITING:
        assert {"cached", "padding", "source-padding", "cross-cached", "beam"} <= held
    for proof in (*found.having("not checked"), *found.having("does not apply")):
        assert proof.reason
        assert "\n" not in proof.reason


def test_proofs_notice_padding_that_is_heard(random_model, monkeypatch):
    from glassformer.models.vectors import VectorEmbedding

    model = random_model(**HEARING["vectors to text"])
    monkeypatch.setattr(VectorEmbedding, "silenced", staticmethod(lambda x, at: x))
    failed = {proof.name for proof in prove(model, texts=SHORT, skip=SLOW).having("fails")}
    assert {"batched", "source-padding"} <= failed


@pytest.mark.parametrize("kind", HEARING)
def test_it_is_described_with_its_parts_and_its_reach(random_model, kind):
    model = random_model(**HEARING[kind])
    found = describe(model, features=features() if model.config.vectors.size == 6 else None)
    convolutions = [w for w in found.weights if w.part == "convolutions"]
    assert len(convolutions) == 2 * len(model.config.vectors.strides)
    assert found.by_part["ctc"] == (
        0 if getattr(model, "ctc", None) is None else sum(p.numel() for p in model.ctc.parameters())
    )
    assert sum(found.by_part.values()) == found.parameters == sum(p.numel() for p in model.parameters())
    assert found.hearing is not None
    assert found.hearing.stride == math.prod(model.config.vectors.strides)
    text = found.render()
    assert f"vectors of {model.config.vectors.size} numbers" in text
    assert max(map(len, text.splitlines())) <= 80
    if model.config.vectors.size == 6:
        assert "50 vectors a second" in text
        assert "0.06 s from one place to the next" in " ".join(text.split())


@pytest.mark.parametrize("kind", [kind for kind in HEARING if HEARING[kind].get("head") != "pooled"])
def test_heads_can_be_ablated_and_answers_attributed(random_model, kind):
    trace = trace_ids(random_model(**{**TINY, **HEARING[kind]}), ids=(1, 0, 2, 1, 2, 1))
    assert ablate_each_head(trace).divergences
    why = trace.view("why", steps=24)
    assert why.render()


def test_tokens_cannot_be_put_where_vectors_stand(random_model):
    trace = trace_ids(random_model(**{**TINY, **HEARING["vectors to text"]}))
    with pytest.raises(ConfigError, match="the encoder reads vectors, and no token stands there"):
        edited(trace, token=("encoder", 0, 1))
    assert edited(trace, token=("decoder", 1, 2)).replay.points["head.logits"].shape == (1, 5, 13)
    assert edited(trace, ablate="encoder.embedding.convolutions.0.out").notes


@pytest.mark.parametrize("kind", HEARING)
def test_every_view_is_drawn_or_says_why_not(random_model, kind):
    model = random_model(**{**TINY, **HEARING[kind]})
    trace = replace(trace_ids(model, ids=(1, 0, 2, 1, 2, 1)), task=TASKS[model.config.head])
    drawn = set()
    for name in VIEWS:
        choices = {"ablate": "encoder.blocks.0.mlp"} if name == "lab" else {"other": trace} if name == "diff" else {}
        try:
            view = trace.view(name, **choices)
        except ConfigError:  # a sentence, as the tests of each view have it
            continue
        drawn.add(name)
        for format in ("plain", "ansi", "md", "json"):
            assert view.render(format)
        assert view.svg().startswith("<svg")
    assert {"tokens", "vectors", "embeddings", "attention", "mask", "residual", "mlp"} <= drawn


def test_views_of_hearing_are_refused_for_texts(random_model):
    for name in ("vectors", "alignment"):
        with pytest.raises(ConfigError, match=f"the view '{name}' is for models that read sound or vectors"):
            trace_ids(random_model(**TINY)).view(name)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_vectors_come_from_files_or_as_they_are(random_model, tmp_path, suffix):
    model = random_model(**{**HEARING["vectors to text"], "vocab_size": tokenizer().vocab_size})
    vectors = np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32)
    path = tmp_path / f"some{suffix}"
    np.save(path, vectors) if suffix == ".npy" else np.savez(path, one=vectors)
    from_file = trace_text(model, tokenizer(), str(path), target="ab")
    as_they_are = trace_text(model, tokenizer(), vectors, target="ab")
    assert torch.equal(from_file.plain, as_they_are.plain)
    assert from_file.verify().ok
    assert from_file.text == f"some{suffix}"
    assert from_file.tokens["encoder"].labels == ("v0", "v4", "v8")
    assert from_file.tokens["decoder"].labels == ("<|start|>", "a", "b")
    assert explain(from_file, n_tokens=tokenizer().vocab_size).ok


def test_what_a_model_writes_by_itself_is_the_target_where_none_is_given(random_model):
    model = random_model(**{**HEARING["vectors to text with CTC"], "vocab_size": tokenizer().vocab_size})
    trace = trace_text(model, tokenizer(), np.random.default_rng(1).standard_normal((12, 5)).astype(np.float32))
    best = trace["head.logits"][0, :, : tokenizer().vocab_size].argmax(-1).tolist()
    assert trace.replay.given["targets"][0].tolist() == best  # the likeliest token at a time
    assert trace.verify().ok


WRONG = {
    "nothing there": ("missing.npy", {}, DataError, "missing.npy"),
    "no file at all": ("", {}, ConfigError, "name a file"),
    "a target for labels": (None, {"target": "ab"}, ConfigError, "gives a sequence its labels"),
    "other channels": (np.zeros((4, 3), np.float32), {}, ConfigError, "its vectors have 3 channels and the model reads 5"),
    "no vectors": (np.zeros((0, 5), np.float32), {}, DataError, "expected vectors"),
    "too many": (np.zeros((400, 5), np.float32), {}, ConfigError, "400 vectors make 100 places, more than the 32"),
    "sound without features": ("a.wav", {}, DataError, "a.wav"),
    "samples without features": (np.zeros(99, np.float32), {}, ConfigError, "does not say how sound becomes vectors"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_heard_is_said_in_one_sentence(random_model, tmp_path, monkeypatch, name):
    source, more, error, message = WRONG[name]
    monkeypatch.chdir(tmp_path)
    kind = "vectors to labels" if name == "a target for labels" else "vectors to tokens"
    model = random_model(**{**HEARING[kind], "vocab_size": tokenizer().vocab_size})
    source = np.zeros((4, 5), np.float32) if source is None else source
    with pytest.raises(error, match=message) as told:
        trace_text(model, tokenizer(), source, **more)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("to", "name"), [("onnx", "a.onnx"), ("torch", "a.pt2"), ("gguf", "a.gguf")])
def test_graphs_of_models_with_vectors_are_refused(random_model, tmp_path, to, name):
    with pytest.raises(ConfigError, match="no graph is written yet of a model that reads vectors"):
        export_model(random_model(**HEARING["vectors to text"]), to, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", HEARING)
def test_models_with_vectors_are_compared_on_random_ones(random_model, kind):
    first, second = (random_model(seed, **HEARING[kind]) for seed in (0, 1))
    assert compare_outputs(first, first).largest == 0
    assert compare_outputs(first, second).largest > 0


def test_kinds_of_the_two_tables_do_not_share_a_name():
    assert len(EVERY_KIND) == len(KINDS) + len(HEARING)
