"""Traces in files: what is read is what was written, budgets are kept, and nothing that was changed passes."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import zipfile

import pytest
import torch
from safetensors.torch import load as load_tensors

from generate_traces import pipe_of, traced_text
from glass_files import change_number, change_tensor, numbers_in, rewritten, taken_apart
from glassformer.errors import CheckpointError, ConfigError
from glassformer.files import DiskError
from glassformer.lens.glass import open_glass
from glassformer.lens.glass.archive import MANIFEST, TENSORS, VOCABULARY, WEIGHTS
from glassformer.lens.glass.digests import file_checks
from glassformer.lens.glass.points import Points
from glassformer.lens.glass.sizes import choose_points
from glassformer.lens.glass.verify import made
from glassformer.lens.recording import fetch
from shapes import EVERY_KIND
from traces import SHAPES, TINY, trace_ids


@pytest.fixture(autouse=True)
def swift(monkeypatch):
    """The disk is not waited for."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture(scope="module")
def written(random_model, tmp_path_factory):
    """A small trace with draws, in a file."""
    path = tmp_path_factory.mktemp("glass") / "written.glass"
    traced_text(random_model, path)
    return path


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_what_is_read_is_what_was_written(random_model, tmp_path, kind):
    trace = trace_ids(random_model(**{**TINY, **EVERY_KIND[kind]}), ids=(1, 0, 2, 1))
    trace.save(tmp_path / "x.glass")
    again = open_glass(tmp_path / "x.glass")
    assert list(again) == list(trace)
    for name in trace:
        assert torch.equal(again[name], trace[name]), name
    assert again.replay.given.keys() == trace.replay.given.keys()
    assert all(torch.equal(again.replay.given[name], tensor) for name, tensor in trace.replay.given.items())
    for field in ("task", "text", "tokens", "notes", "draws", "tree", "vocabulary", "settings"):
        assert getattr(again, field) == getattr(trace, field)
    assert torch.equal(again.plain, trace.plain)
    assert again.model.config == trace.model.config
    found = again.verify()
    assert found.ok, found.render()


def test_a_file_that_was_opened_can_be_written_again(random_model, tmp_path):
    trace = trace_ids(random_model(**TINY))
    trace.save(tmp_path / "x.glass")
    open_glass(tmp_path / "x.glass").save(tmp_path / "y.glass")
    first, second = taken_apart(tmp_path / "x.glass"), taken_apart(tmp_path / "y.glass")
    assert first[0]["points"] == second[0]["points"]
    assert open_glass(tmp_path / "y.glass").verify().ok


def test_the_file_is_an_uncompressed_zip_of_json_and_safetensors(written):
    with zipfile.ZipFile(written) as archive:
        assert archive.namelist() == [MANIFEST, VOCABULARY, TENSORS, WEIGHTS]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        manifest = json.loads(archive.read(MANIFEST), parse_constant=pytest.fail)
        tensors = load_tensors(archive.read(TENSORS))
    stored = [row for row in manifest["points"] if row["state"] == "stored"]
    assert all(list(tensors[row["name"]].shape) == row["shape"] for row in stored)
    assert all(row["store"] == f"{TENSORS}#{row['name']}" for row in stored)
    assert manifest["glass"] == 1
    assert {"formula", "recipe", "of", "axes", "stats", "dtype"} <= stored[0].keys()
    assert [event["type"] for event in manifest["events"]] == ["sample"] * len(manifest["events"])
    assert manifest["tokens"]["decoder"][0].keys() == {"id", "text", "bytes", "special"}


def test_nothing_in_json_is_infinite_or_no_number(random_model, tmp_path):
    trace = traced_text(random_model, tmp_path / "x.glass", no_repeat_ngram_size=1)
    assert any(bool(drawn.logits.isinf().any()) for drawn in trace.draws)
    text = zipfile.ZipFile(tmp_path / "x.glass").read(MANIFEST).decode()
    assert "Infinity" not in text
    assert "NaN" not in text
    again = open_glass(tmp_path / "x.glass")
    assert torch.equal(again.draws[-1].logits, trace.draws[-1].logits)
    assert again.verify().ok


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("budget", [0.0, 0.002, 0.004])
def test_what_does_not_fit_is_computed_again_to_the_last_bit(random_model, tmp_path, shape, budget):
    trace = trace_ids(random_model(**{**TINY, "n_layers": 2, "shape": shape}))
    trace.save(tmp_path / "x.glass", budget_mb=budget)
    again = open_glass(tmp_path / "x.glass")
    points = again.replay.points
    assert isinstance(points, Points)
    assert points.lazy
    assert sum(tensor.numel() * tensor.element_size() for tensor in points.held.values()) <= budget * 1e6
    for name, tensor in trace.replay.points.items():
        assert torch.equal(points[name].double(), tensor.double()), name
    states = {row["name"]: row["state"] for row in again.filed.manifest["points"]}
    assert {name for name, state in states.items() if state == "lazy"} == set(points.lazy)
    found = again.verify()
    assert found.ok, found.render()
    assert len(found.agreements) == len(trace.replay.graph)


def test_the_smallest_come_first_and_a_refusal_says_what_would_fit():
    sizes = {"a.pattern": 3_000_000, "b.pattern": 1_000_000, "c.q": 2_000_000, "d.q": 500_000}
    assert choose_points(sizes, "*", 3.5) == ["b.pattern", "c.q", "d.q"]
    assert choose_points(sizes, "*", 3.4) == ["b.pattern", "d.q"]
    assert choose_points(sizes, ("*.pattern",), 4) == ["a.pattern", "b.pattern"]
    with pytest.raises(
        ConfigError, match=r"2 tensors have 4\.0 MB and the budget is 3\.9 MB; 1 of them fit.* allow 4 MB"
    ):
        choose_points(sizes, ("*.pattern",), 3.9)
    with pytest.raises(ConfigError, match=r"not even d\.q fits"):
        choose_points(sizes, ("*.q",), 0.1)
    with pytest.raises(ConfigError, match=r"no tensor is called '\*.patern' \(did you mean"):
        choose_points(sizes, "*.patern", 9)
    for odd in (-1, math.nan, math.inf):
        with pytest.raises(ConfigError, match="out of range"):
            choose_points(sizes, "*", odd)


def test_what_was_computed_again_stays_within_its_room(random_model):
    trace = trace_ids(random_model(**{**TINY, "n_layers": 3}))
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in trace.replay.points.items()}
    block = sum(size for name, size in sizes.items() if ".blocks.0." in name)
    runs = []

    def again(names):
        runs.append(list(names))
        return fetch(trace.model, trace.replay.given, names)

    points = Points({}, sizes, again, room=1.5 * block)
    for name, tensor in trace.replay.points.items():
        assert torch.equal(points[name], tensor)
        assert sum(sizes[kept] for kept in points._back) <= 1.5 * block
    assert len([run for run in runs if len(run) > 1]) == 3  # a block at a time
    poor = Points({}, sizes, again, room=0)
    assert torch.equal(poor["decoder.blocks.1.mlp.out"], trace.replay.points["decoder.blocks.1.mlp.out"])
    assert runs[-1] == ["decoder.blocks.1.mlp.out"]
    with pytest.raises(KeyError):
        poor["decoder.blocks.9.mlp.out"]


def test_weights_beyond_their_budget_are_named_by_their_digest(random_model, tmp_path):
    model = random_model(**TINY)
    trace_ids(model).save(tmp_path / "x.glass", weights_mb=0)
    with pytest.raises(CheckpointError, match=r"holds no weights, which have .* kB; give the run"):
        open_glass(tmp_path / "x.glass")
    again = open_glass(tmp_path / "x.glass", model)
    assert again.model is model
    assert again.verify().ok
    with pytest.raises(CheckpointError, match="other weights than those of the model given"):
        open_glass(tmp_path / "x.glass", random_model(1, **TINY))


def test_tied_weights_are_stored_once(random_model, tmp_path):
    model = random_model(**{**TINY, "shape": "encoder_decoder", "tied": True})
    trace_ids(model).save(tmp_path / "x.glass")
    assert taken_apart(tmp_path / "x.glass")[2].keys() == dict(model.named_parameters()).keys()
    again = open_glass(tmp_path / "x.glass").model
    assert again.head.linear.weight is again.encoder.embedding.token.weight


def test_a_write_that_fails_leaves_what_stood_there(written, tmp_path, monkeypatch, random_model):
    path = tmp_path / "x.glass"
    path.write_bytes(b"before")
    monkeypatch.setattr("os.replace", lambda *of: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(DiskError, match="the disk is full"):
        trace_ids(random_model(**TINY)).save(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


# What was changed


def is_refused(path) -> bool:
    """Whether a file does not open, with a sentence, or does not verify; what is quick to see is looked at first."""
    try:
        trace = open_glass(path)
        return any(not check.ok for check in made("", file_checks, trace)) or not trace.verify().ok
    except CheckpointError as error:
        return "\n" not in str(error)


def test_no_single_number_can_be_changed(written, tmp_path):
    """By one part in ten thousand: 100 of tensors and weights, 100 of the manifest, 50 of them of the draws."""
    draw = random.Random(0)
    manifest, tensors, weights = taken_apart(written)
    everywhere = list(numbers_in(manifest))
    events = [path for path in everywhere if path[0] == "events"]
    missed = []
    for number in range(200):
        if number < 100:
            place, name = draw.choice([(1, name) for name in tensors] + [(2, name) for name in weights])
            rewritten(written, tmp_path / "x.glass", lambda parts: change_tensor(parts[place], name, draw))  # noqa: B023
        else:
            name = draw.choice(events if number < 150 else everywhere)
            rewritten(written, tmp_path / "x.glass", lambda parts: change_number(parts[0], name))  # noqa: B023
        if not is_refused(tmp_path / "x.glass"):
            missed.append(name)
    assert missed == []


def test_no_number_of_a_draw_can_be_changed_even_where_every_digest_is_made_to_fit(written, tmp_path):
    missed = []
    for path in numbers_in(taken_apart(written)[0]):
        if path[0] == "events":
            rewritten(written, tmp_path / "x.glass", lambda parts: change_number(parts[0], path), fitting=True)  # noqa: B023
            if not is_refused(tmp_path / "x.glass"):
                missed.append(path)
    assert missed == []


def test_most_numbers_of_tensors_are_held_by_the_recipes_alone(written, tmp_path):
    """Every digest made to fit. What passes is small beside what it is added to."""
    draw = random.Random(1)
    names = [name for name in taken_apart(written)[1] if not name.startswith(("draws", "plain", "given"))]
    caught = 0
    for _ in range(30):
        name = draw.choice(names)
        rewritten(written, tmp_path / "x.glass", lambda parts: change_tensor(parts[1], name, draw), fitting=True)  # noqa: B023
        caught += is_refused(tmp_path / "x.glass")
    assert caught >= 27


def test_a_copy_in_which_nothing_was_changed_verifies(written, tmp_path):
    rewritten(written, tmp_path / "x.glass", lambda parts: None, fitting=True)
    assert not is_refused(tmp_path / "x.glass")


def test_tensors_that_another_machine_rounds_otherwise_are_no_failure(random_model, tmp_path):
    """The digests of lazy tensors differ, what is said of their numbers hardly."""
    trace = trace_ids(random_model(**{**TINY, "n_layers": 2}))
    trace.save(tmp_path / "x.glass", budget_mb=0.002)

    def elsewhere(parts, part=1e-7):
        for row in parts[0]["points"]:
            if row["state"] == "lazy":
                row["stats"] |= {"sha256": "0" * 64, "mean": row["stats"]["mean"] + part * row["stats"]["max"]}

    rewritten(tmp_path / "x.glass", tmp_path / "y.glass", elsewhere, fitting=True)
    assert not is_refused(tmp_path / "y.glass")
    rewritten(tmp_path / "x.glass", tmp_path / "y.glass", lambda parts: elsewhere(parts, 1e-3), fitting=True)
    assert is_refused(tmp_path / "y.glass")


def test_damage_is_one_sentence(written, tmp_path):
    content, whole = written.read_bytes(), taken_apart(written)[1]
    path = tmp_path / "x.glass"
    draw = random.Random(0)
    for size in (0, 1, 30, 1000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        assert is_refused(path), size
    for _ in range(25):
        place = draw.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :])
        if not is_refused(path):
            found = taken_apart(path)[1]  # dates and attributes of the archive are nobody's numbers
            assert all(torch.equal(tensor, found[name]) for name, tensor in whole.items()), place


def test_foreign_files_are_one_sentence(tmp_path, written):
    path = tmp_path / "x.glass"
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_glass(path)
    path.mkdir()
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_glass(path)
    path = tmp_path / "y.glass"
    path.write_text("no archive at all")
    with pytest.raises(CheckpointError, match="is no trace"):
        open_glass(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    with pytest.raises(CheckpointError, match=r"the archive has no manifest\.json"):
        open_glass(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, "{}" * 99)
    with pytest.raises(CheckpointError, match="is compressed"):
        open_glass(path)
    for content, said in (
        (b"{", "JSON"),
        (b"[]", "damaged or no trace"),
        (b'{"glass": 9}', "version 9"),
        (b"{}", "version None"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(MANIFEST, content)
        with pytest.raises(CheckpointError, match=said):
            open_glass(path)


@pytest.mark.parametrize("odd", [None, "x", [], -1, 10**30])
def test_whatever_a_manifest_says_there_is_one_sentence_or_a_failure(written, tmp_path, odd):
    draw = random.Random(str(odd))

    def places(values, path=()):
        yield path
        inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
        for key, value in inner:
            yield from places(value, (*path, key))

    every = [path for path in places(taken_apart(written)[0]) if path and path[0] != "sha256"]
    top = [path for path in every if len(path) < 3]
    for path in (*draw.sample(top, 8), *draw.sample(every, 8)):

        def put(parts, path=path):
            values = parts[0]
            for key in path[:-1]:
                values = values[key]
            values[path[-1]] = odd

        rewritten(written, tmp_path / "x.glass", put)
        same = taken_apart(written)[0] == taken_apart(tmp_path / "x.glass")[0]
        assert same or is_refused(tmp_path / "x.glass"), path


@pytest.mark.parametrize("change", ["ids", "positions", "shape", "more layers", "fewer weights", "no tensors"])
def test_parts_that_do_not_fit_together_are_one_sentence(written, tmp_path, change):
    def put(parts):
        manifest, tensors, weights = parts
        match change:
            case "ids":
                tensors["given.decoder.ids"] = tensors["given.decoder.ids"] + 1000
            case "positions":
                tensors["given.decoder.at"] = tensors["given.decoder.at"] * 1000
            case "shape":
                tensors["decoder.norm.out"] = tensors["decoder.norm.out"][:, :-1]
            case "more layers":
                manifest["model"]["config"]["n_layers"] = 10**9
            case "fewer weights":
                del weights["decoder.norm.weight"]
            case _:
                tensors.clear()

    rewritten(written, tmp_path / "x.glass", put)
    with pytest.raises(CheckpointError):
        open_glass(tmp_path / "x.glass")


# Text that is generated


def test_a_traced_text_is_the_text_and_each_draw_follows_from_its_logits(random_model):
    pipe = pipe_of(random_model)
    settings = {"max_new_tokens": 6, "temperature": 0.8, "top_k": 9, "repetition_penalty": 1.2, "seed": 4}
    text, trace = pipe.generate("the cat", trace=True, **settings)
    assert text == pipe.generate("the cat", **settings)
    assert text == trace.settings["text"]
    assert [drawn.position for drawn in trace.draws] == list(range(7, 13))
    assert [drawn.draw.token for drawn in trace.draws] == list(trace.tokens["decoder"].ids[7:])
    for drawn in trace.draws:
        row = trace["head.logits"][0, drawn.position - 1]
        assert torch.allclose(drawn.logits.double(), row[: len(drawn.logits)], atol=1e-4)
        assert [stage.name for stage in drawn.draw.stages] == ["repetition_penalty", "temperature", "top_k"]
    found = trace.verify()
    assert found.ok, found.render()


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0},
        {"top_p": 0.7, "min_p": 0.05},
        {"presence_penalty": 0.5, "frequency_penalty": 0.3},
        {"no_repeat_ngram_size": 2, "min_new_tokens": 3},
        {"num_beams": 3, "length_penalty": 0.6},
        {"max_new_tokens": 0},
    ],
    ids=str,
)
def test_every_way_of_choosing_tokens_verifies(random_model, tmp_path, settings):
    pipe = pipe_of(random_model)
    text, trace = pipe.generate("a rat", trace=True, **{"max_new_tokens": 5, **settings})
    assert text == pipe.generate("a rat", **{"max_new_tokens": 5, **settings})
    trace.save(tmp_path / "x.glass")
    again = open_glass(tmp_path / "x.glass")
    assert [d.draw for d in again.draws] == [d.draw for d in trace.draws]
    assert again.tree == trace.tree
    assert (trace.tree is not None) == ("num_beams" in settings)
    found = again.verify()
    assert found.ok, found.render()


def test_a_text_that_outgrows_the_context_is_refused(random_model):
    pipe = pipe_of(random_model)
    most = pipe.model.config.max_len
    with pytest.raises(ConfigError, match=f"outgrows the context of {most} tokens.* ask for at most {most - 2} new"):
        pipe.generate("the", trace=True, max_new_tokens=most)
    _, trace = pipe.generate("the", trace=True, max_new_tokens=most - 2, min_new_tokens=most - 2)
    assert len(trace.tokens["decoder"]) == most
    assert len(trace.draws) == most - 2
    assert trace.verify().ok
    with pytest.raises(ConfigError, match="the prompt has 40 tokens"):
        pipe.generate("a" * 40, trace=True)
    with pytest.raises(ConfigError, match="a trace shows one text, and 2 were asked for"):
        pipe.generate("the", trace=True, num_samples=2)


@pytest.mark.parametrize("field", ["log_p", "cumulative", "score", "rank", "step", "token"])
def test_no_number_of_a_search_can_be_changed(random_model, tmp_path, field):
    _, trace = pipe_of(random_model).generate("a cat", trace=True, num_beams=3, max_new_tokens=4)
    trace.save(tmp_path / "x.glass")
    for number in random.Random(0).sample(range(len(trace.tree.nodes)), 3):

        def put(parts, number=number):
            node = parts[0]["events"][0]["nodes"][number]
            node[field] = node[field] + 1 if isinstance(node[field], int) else node[field] * 1.0001

        rewritten(tmp_path / "x.glass", tmp_path / "y.glass", put, fitting=True)
        assert is_refused(tmp_path / "y.glass"), number


def test_draws_of_another_seed_are_noticed(random_model):
    _, trace = pipe_of(random_model).generate("the", trace=True, max_new_tokens=3)
    other = dataclasses.replace(trace, settings={**trace.settings, "seed": 1})
    assert [check.label for check in other.verify().checks if not check.ok] == [
        "the token of 3 draws follows from u, and u from the seed"
    ]
