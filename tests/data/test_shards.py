"""Token shards: what goes in comes out, whoever makes them; what was changed is refused; windows, packing and mixtures."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glassformer.data import IGNORED, TokenWindows
from glassformer.data.mixtures import BLOCK, MixedWindows
from glassformer.data.order import Permutation
from glassformer.data.packing import PackedWindows, evaluation_documents
from glassformer.data.shards import Reading, TokenizerChoice, open_shards, prepare
from glassformer.data.shards.tokens import divided, whole
from glassformer.errors import ConfigError, DataError, GlassformerError
from shards import contents, documents_of, json_lines, prepared, sentences, write_inputs


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def shards(tmp_path: Path) -> Any:
    return prepared(write_inputs(tmp_path / "in"), tmp_path / "out")


# --- preparing --------------------------------------------------------------------------------------------------------


def test_every_document_comes_back_in_order_from_every_format(shards):
    texts = [text.strip() for text in documents_of(shards)]
    assert texts == [text for seed in (1, 2, 3, 4) for text in sentences(seed, 60)]
    assert shards.manifest.documents == shards.manifest.rows == 240
    assert len(shards.shards) > 6
    shards.verify()


def test_parquet_rows_come_back_from_several_row_groups(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [*sentences(1, 100), None, "", "last"]
    parquet.write_table(pyarrow.table({"text": rows, "n": range(103)}), tmp_path / "a.parquet", row_group_size=20)
    made = prepared([tmp_path / "a.parquet"], tmp_path / "out")
    assert documents_of(made) == [row for row in rows if row]
    assert (made.manifest.empty, made.manifest.rows, len(made.shards)) == (2, 103, 6)


def test_processes_make_the_same_bytes_and_a_second_call_makes_nothing(tmp_path: Path, monkeypatch):
    files = write_inputs(tmp_path / "in")
    one = prepared(files, tmp_path / "one")
    prepared(files, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    monkeypatch.setattr("glassformer.data.shards.preparing.prepare_part", None)
    assert prepared(files, tmp_path / "one").manifest == one.manifest


def test_a_missing_or_damaged_shard_is_made_anew(tmp_path: Path):
    files = write_inputs(tmp_path / "in")
    prepared(files, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "shard-00001.gft").unlink()
    path = tmp_path / "out" / "shard-00002.gft"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    prepared(files, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_bad_rows_are_listed_with_their_place_and_the_rest_is_kept(tmp_path: Path):
    good = json_lines(["one", "two"])
    bad = b'{"text": 5}\n{"tex": "x"}\nno json\n\n"\\ud800"\n{"text": "\xff"}\n[1]\n'
    (tmp_path / "a.jsonl").write_bytes(good + bad + json_lines(["three"]))
    made = prepared([tmp_path / "a.jsonl"], tmp_path / "out", shard_tokens=10**6)
    assert documents_of(made) == ["one", "two", "three"]
    listed = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert [(row["line"], row["reason"].split(",")[0]) for row in listed] == [
        (3, "'text' holds a number"),
        (4, "no key 'text'"),
        (5, "is not valid JSON (expecting value at column 1); mend or remove the line"),
        (7, "the string holds \\ud800"),
        (8, "byte 10 of the row (0xff) is not utf-8"),
        (9, "expected an object with the key 'text'"),
    ]
    assert listed[0]["byte"] == len(good)
    counts = made.manifest
    assert (counts.rows, counts.documents, counts.quarantined, counts.empty) == (10, 3, 6, 1)
    with pytest.raises(
        DataError, match=r"6 of 10 rows are bad, more than --max-bad 0.05 allows; the first, in .*a\.jsonl"
    ):
        prepared([tmp_path / "a.jsonl"], tmp_path / "strict", most_bad=0.05)
    assert not (tmp_path / "strict" / "index.json").exists()


def test_long_rows_are_bad_and_long_texts_are_streamed(tmp_path: Path):
    (tmp_path / "a.jsonl").write_bytes(json_lines(["short", "x" * 5000, "also short"]))
    made = prepared([tmp_path / "a.jsonl"], tmp_path / "out", reading=Reading(most_bytes=1000), shard_tokens=10**6)
    assert documents_of(made) == ["short", "also short"]
    text = "".join(f"line {n} of a text without any separator\n" for n in range(80_000))
    (tmp_path / "b.txt").write_text(text)
    assert documents_of(prepared([tmp_path / "b.txt"], tmp_path / "long", shard_tokens=10**5)) == [text]


def test_other_work_in_the_folder_is_refused(tmp_path: Path):
    files = write_inputs(tmp_path / "in")
    prepared(files, tmp_path / "out")
    with pytest.raises(ConfigError, match="holds shards of other work"):
        prepared(files[:1], tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        prepared(files, tmp_path / "other")
    with pytest.raises(DataError, match="is no file"):
        prepared(["-"], tmp_path / "pipe")
    with pytest.raises(DataError, match="cannot be streamed"):
        prepare(files, tmp_path / "wide", TokenizerChoice(kind="bytes"), reading=Reading(encoding="utf-16"))


def mutate(folder: Path, count: int) -> int:
    """How many of so many changes to shards and manifests were refused with a sentence; a silent one fails."""
    draw, files = random.Random(3), [*sorted(folder.glob("*.gft")), folder / "index.json"]
    before = {path: path.read_bytes() for path in files}
    refused = 0
    for number in range(count):
        path = files[-1] if number % 4 == 0 else draw.choice(files)
        content = bytearray(before[path])
        kind = draw.choice(("bit", "cut", "grow", "zero", "swap", "gone"))
        at = draw.randrange(len(content)) if number % 2 else draw.randrange(min(len(content), 600))
        if kind == "bit":
            content[at] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del content[at:]
        elif kind == "grow":
            content[at:at] = bytes([draw.randrange(256)])
        elif kind == "zero":
            content[at : at + 64] = bytes(len(content[at : at + 64]))
        elif kind == "swap":
            content = bytearray(before[draw.choice(files)])
        if bytes(content) == before[path] and kind != "gone":
            continue
        if kind == "gone":
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(GlassformerError):
            open_shards(folder).verify()
        refused += 1
        path.write_bytes(before[path])
    open_shards(folder).verify()
    return refused


def test_changed_shards_and_manifests_are_refused(shards):
    assert mutate(shards.folder, 60) > 50


@pytest.mark.slow
def test_300_changed_shards_and_manifests_are_refused(shards):
    assert mutate(shards.folder, 340) >= 300


# --- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 5, 17, 1000, 4097, 70_001])
def test_a_permutation_visits_every_place_once_and_depends_on_its_key(n: int):
    order = Permutation(n, 7)(np.arange(n))
    assert np.array_equal(np.sort(order), np.arange(n))
    if n > 20:
        assert (order == Permutation(n, 8)(np.arange(n))).mean() < 0.1
        assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 4 / n**0.5


def test_windows_over_shards_are_those_of_the_tokens_in_one_array(shards):
    tokens = whole(shards.shards)
    array = tokens.array()
    for seed in range(3):
        ours, plain = TokenWindows(tokens, 31, seed), TokenWindows(array, 31, seed)
        for step in (0, 7, 400):
            np.testing.assert_array_equal(ours.batch(step, 9), plain.batch(step, 9))


@pytest.mark.parametrize("most_sorted", [0, 1 << 18])
def test_every_window_once_an_epoch_over_50_shapes(monkeypatch, most_sorted: int):
    monkeypatch.setattr("glassformer.data.windows.MOST_SORTED", most_sorted)
    draw = random.Random(most_sorted)
    for _ in range(50):
        length, size = draw.randint(1, 40), draw.randint(1, 9)
        n, epoch = draw.randint(length + 1, 3000), draw.randint(0, 4)
        windows = TokenWindows(np.arange(n), length, draw.randrange(10**6))
        numbers = np.arange(epoch * windows.per_epoch, (epoch + 1) * windows.per_epoch)
        ids = np.concatenate([windows.rows_at(part) for part in np.array_split(numbers, -(-len(numbers) // size))])
        assert np.array_equal(np.unique(ids[:, :-1]), np.sort(ids[:, :-1].ravel()))  # none twice
        assert n - ids[:, :-1].size <= 2 * length  # what an epoch misses at the ends
    few = TokenWindows(np.arange(3000), 10, 0)
    assert few.batch(3, 8).tolist() == np.concatenate([few.batch(i, 4) for i in (6, 7)]).tolist()


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_the_shares_of_any_number_of_processes_make_up_the_same_batch(shards, world: int):
    import torch

    from glassformer.training.distributed.launch import Seat
    from glassformer.training.distributed.topology import Joined
    from glassformer.training.tasks.task import Batch
    from glassformer.training.topology import ALONE

    def batch() -> Batch:  # each process opens the shards for itself
        rows = torch.from_numpy(TokenWindows(whole(open_shards(shards.folder).shards), 16, 0).batch(5, n))
        return Batch({"ids": rows[:, :-1]}, rows[:, 1:], rows[:, 1:].numel(), rows.numel())

    for n in (16, 19, 8):
        plain = ALONE.share(batch())
        seats = [Joined(Seat(rank, world, rank, world)) for rank in range(world)]
        shares = [seat.share(batch()) for seat in seats]
        assert torch.equal(torch.cat([share.inputs["ids"] for share in shares]), plain.inputs["ids"])
        assert torch.equal(torch.cat([share.targets for share in shares]), plain.targets)
        assert {share.n_targets for share in shares} == {plain.n_targets}
        assert [row for seat in seats for row in seat.rows(n)] == list(range(n))


def test_the_first_batch_at_step_one_million_comes_within_100_ms():
    class Endless:
        """Ten billion tokens that nobody stores."""

        def __len__(self) -> int:
            return 10**10

        def rows(self, starts: np.ndarray, length: int) -> np.ndarray:
            return starts[:, None] + np.arange(length)

    def seconds() -> float:
        began = time.process_time()
        TokenWindows(Endless(), 256, 0).batch(1_000_000, 64)
        return time.process_time() - began

    assert min(seconds() for _ in range(3)) < 0.1


def test_what_is_held_back_is_whole_documents_of_every_shard_and_nothing_is_on_both_sides(shards):
    train, held = divided(shards.shards, 0.2, 10**9)
    assert len(train) + len(held) == shards.manifest.tokens
    assert 0.1 < len(held) / shards.manifest.tokens < 0.25
    assert set(np.unique(train.array()[train.ends - 1])) == {shards.manifest.end}
    assert held.array()[-1] == train.array()[-1] == shards.manifest.end
    assert len(divided(shards.shards, 0.5, 40)[1]) <= 40


# --- packing ----------------------------------------------------------------------------------------------------------


def test_packing_predicts_every_token_but_the_first_of_each_document_once_over_50_shapes():
    draw = random.Random(0)
    for _ in range(50):
        length = draw.randint(1, 40)
        sizes = [draw.randint(1, 90) for _ in range(draw.randint(1, 60))] + [2]
        ends = np.cumsum(sizes)
        windows = PackedWindows(np.arange(ends[-1]), ends, length, draw.randrange(10**6), pad=0)
        epoch = draw.randint(0, 3)
        rows = windows.rows_at(np.arange(epoch * windows.per_epoch, (epoch + 1) * windows.per_epoch))
        ids, targets, documents = rows[:, 0], rows[:, 1], rows[:, 2]
        asked = targets != IGNORED
        firsts = np.concatenate([[0], ends[:-1]])
        assert np.sort(targets[asked]).tolist() == sorted(set(range(ends[-1])) - set(firsts.tolist()))
        assert (targets[asked] == ids[asked] + 1).all()  # each is asked of the token before it
        of_document = np.searchsorted(ends, ids, side="right")
        for row in range(len(rows)):
            for number in np.unique(documents[row][asked[row]]):
                assert len(set(of_document[row][(documents[row] == number) & asked[row]])) == 1
        inputs, again = evaluation_documents(np.arange(ends[-1]), ends, length)
        assert np.sort(again[again != IGNORED]).tolist() == np.sort(targets[asked]).tolist()
        assert inputs.shape == again.shape


@pytest.mark.parametrize("positions", ["rotary", "learned", "alibi", "relative", "sinusoidal", "none"])
@pytest.mark.parametrize("watched", [False, True])
def test_a_changed_document_leaves_the_logits_of_those_packed_beside_it_untouched(random_model, positions, watched):
    import torch

    from glassformer.trace import watch

    model = random_model(positions=positions, bigram=50, window=9)
    ends = np.cumsum([7, 9, 4, 6, 8, 5])
    ids = np.random.Generator(np.random.PCG64(0)).integers(0, 23, ends[-1])
    windows = PackedWindows(ids, ends, 20, 0, pad=0)
    rows = torch.from_numpy(windows.rows_at(np.arange(windows.per_epoch)))
    before, _, documents = rows.unbind(1)
    for number in range(2):
        changed = torch.where(documents == number, (before + 1) % 23, before)
        scores = []
        for packed in (before, changed):
            if watched:
                with watch(model, "*.pattern"):
                    scores.append(model(packed, documents=documents))
            else:
                scores.append(model(packed, documents=documents))
        assert torch.equal(scores[0][documents != number], scores[1][documents != number])
        assert not torch.equal(scores[0][documents == number], scores[1][documents == number])


def test_the_loss_of_packed_documents_is_that_of_each_alone(random_model):
    import torch

    from glassformer.ops.losses import cross_entropy

    model = random_model(positions="rotary")
    ends = np.cumsum([7, 9, 4, 6, 30])
    ids = np.random.Generator(np.random.PCG64(0)).integers(0, 23, ends[-1])
    windows = PackedWindows(ids, ends, 16, 0, pad=0)
    packed = torch.from_numpy(windows.rows_at(np.arange(windows.per_epoch)))
    together = cross_entropy(model(packed[:, 0], documents=packed[:, 2]), packed[:, 1])
    inputs, targets = map(torch.from_numpy, evaluation_documents(ids, ends, 16))
    assert float(together) == pytest.approx(float(cross_entropy(model(inputs), targets)), rel=1e-6)


# --- mixtures ---------------------------------------------------------------------------------------------------------


def test_a_mixture_follows_its_weights_exactly_and_visits_each_source_in_its_own_order():
    sources = [TokenWindows(np.arange(k * 10**6, k * 10**6 + 5000), 10, k) for k in range(3)]
    mixed = MixedWindows(sources, [5, 3, 2], seed=0)
    rows = mixed.rows_at(np.arange(3 * BLOCK))
    source = rows[:, 0] // 10**6
    for block in np.split(source, 3):
        assert np.bincount(block).tolist() == [500, 300, 200]
    for k in range(3):
        mine = rows[source == k]
        np.testing.assert_array_equal(mine, sources[k].rows_at(np.arange(len(mine))))
    late = mixed.batch(10**6, 7)
    np.testing.assert_array_equal(
        late, MixedWindows(sources, [5, 3, 2], seed=0).rows_at(np.arange(7 * 10**6, 7 * 10**6 + 7))
    )
    for weights in ([1, 2], [1, 2, 0], [1, 2, float("nan")]):
        with pytest.raises(ConfigError, match="one positive number for each"):
            MixedWindows(sources, weights, 0)
    assert MixedWindows(sources, [1e9, 1, 1], 0).quotas.tolist() == [998, 1, 1]


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"data.packing": "documents"}, {"data.weights": "3,1"}])
def test_training_on_shards_resumes_to_the_same_weights(tmp_path: Path, more: dict[str, Any]):
    import torch
    from safetensors.torch import load_file

    from glassformer import train
    from running import quick_settings

    files = write_inputs(tmp_path / "in", 200)
    sources: list[Path] = [prepared(files, tmp_path / "shards").folder]
    sources += files[:1] if "data.weights" in more else []

    settings, run = quick_settings(**{"loop.save_every": 3, **more}), tmp_path / "run"
    train(sources, run, **settings)
    whole = load_file(run / "final" / "model.safetensors")
    for name in ("final", "best"):
        shutil.rmtree(run / name)
    train(sources, run, **settings)
    again = load_file(run / "final" / "model.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_shards_of_another_tokenizer_or_changed_ones_are_refused(tmp_path: Path):
    from glassformer import train
    from running import quick_settings

    files = write_inputs(tmp_path / "in", 200)
    folder = prepared(files, tmp_path / "shards").folder
    other = prepared(files, tmp_path / "other", choice=TokenizerChoice(kind="characters")).folder
    with pytest.raises(ConfigError, match="made with another tokenizer than the run has"):
        train(folder, tmp_path / "run", **quick_settings(**{"tokenizer.path": str(other / "tokenizer")}))
    with pytest.raises(ConfigError, match="made with another tokenizer than those of"):
        train([folder, other], tmp_path / "run", **quick_settings())
    with pytest.raises(ConfigError, match="token shards come with their tokenizer"):
        train(folder, tmp_path / "run", **quick_settings(**{"tokenizer.kind": "bpe"}))
    with pytest.raises(ConfigError, match="beside other files"):
        train([folder, files[0]], tmp_path / "run", **quick_settings())
    shard = folder / "shard-00002.gft"
    content = bytearray(shard.read_bytes())
    content[5000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match="do not match their checksum"):
        train(folder, tmp_path / "run", **quick_settings())
    (folder / "index.json").unlink()
    with pytest.raises(DataError, match="was not prepared to the end"):
        train(folder, tmp_path / "run", **quick_settings())


def test_a_run_does_not_go_on_with_other_shards_than_it_began_with(tmp_path: Path):
    from glassformer import train
    from running import quick_settings

    folder = prepared(write_inputs(tmp_path / "in", 200), tmp_path / "shards").folder
    train(folder, tmp_path / "run", **quick_settings(**{"loop.save_every": 3}))
    shutil.rmtree(tmp_path / "run" / "final")
    shutil.rmtree(folder)
    prepared(write_inputs(tmp_path / "in", 201), folder)
    with pytest.raises(GlassformerError, match=r"shard-\d+\.gft \(changed\)"):
        train(folder, tmp_path / "run", **quick_settings(**{"loop.save_every": 3}))


def test_packed_documents_are_shown_as_the_model_sees_them(tmp_path: Path):
    from glassformer.cli.batch import rows_of
    from glassformer.training.preview import preview
    from running import quick_settings

    folder = prepared(write_inputs(tmp_path / "in", 100), tmp_path / "shards").folder
    (tmp_path / "recipe.yaml").write_text(
        f"data: {{sources: {folder}, packing: documents}}\nmodel: {{max_len: 64, d_model: 16, n_layers: 1}}\n"
        f"loop: {{steps: {quick_settings()['loop.steps']}, batch_size: 8}}\n"
    )
    recipe, task = preview(tmp_path / "recipe.yaml")
    batch = task.batch(0)
    for row, documents in zip(rows_of(task, recipe, batch), batch.inputs["documents"].tolist(), strict=True):
        for place, (first, last) in enumerate(row["ids"]["mask"]["sees"]):
            assert (first, last) == (documents.index(documents[place]), place)
    assert batch.n_targets == int((batch.targets != IGNORED).sum()) < batch.n_tokens
