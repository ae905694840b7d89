"""Many processes train one model: the same losses, the same checkpoints, the same forward pass as one process alone.

Two processes are started once, as ``python test_distributed.py FOLDER STEPS``, and what they find is looked at by many tests.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.launcher import api as launcher

from glassformer import machine
from glassformer.checkpoints.film_file import read_film
from glassformer.errors import ConfigError, GlassformerError
from glassformer.models import ModelConfig, build_model
from glassformer.training import Silence, train_run
from glassformer.training.checkpoint import Checkpoints, State, damage, flatten, restore
from glassformer.training.distributed.launch import Seat, find_seat, first_host, how_many, launch, meet_at
from glassformer.training.film import FILM
from glassformer.training.optimisers import Optimisers
from glassformer.training.recipe import OptimiserRecipe, Recipe
from glassformer.training.recompute import recompute_blocks
from glassformer.training.tasks.task import Batch
from parts import random_parts
from processes import run_pair

KINDS = ("replicate", "shard", "tensor")
MODEL: dict[str, Any] = {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_len": 16}
# At the usual rates a difference in rounding grows by itself: one process that takes its steps in three portions instead of
# one is 5 % away after 100 steps of this tiny model. At a tenth of them it stays what it was.
GENTLE = {"lr": 0.004, "embedding_lr": 0.004, "head_lr": 0.001, "vector_lr": 0.001}
CONFIG = ModelConfig.parse({**MODEL, "vocab_size": 19, "tied": True})


def wishes(folder: Path, steps: int, **loop: Any) -> dict[str, Any]:
    """A recipe of a small run."""
    every = {"eval_every": steps, "sample_every": steps, "save_every": 5, "log_every": 1}
    return {
        "data": {"sources": [str(folder / "words.txt")]},
        "model": {**MODEL, "dropout": 0.0},
        "film": {"every": 4},
        "optimiser": {"grad_clip": 1.0, "ema": 0.9, **(GENTLE if steps > 50 else {})},
        "loop": {"steps": steps, "batch_size": 6, "threads": 1, "grad_accum": 2, "compile": "no", **every, **loop},
    }


def pairs_wishes(folder: Path, **loop: Any) -> dict[str, Any]:
    """A recipe of a small run on pairs, whose rows are compared with each other; batches have 1 to 6 of them."""
    words = ("one", "two", "three", "four", "ten")
    rows = [" ".join(some) for n in (1, 2, 3) for some in itertools.product(words, repeat=n)]
    if not (folder / "pairs.tsv").exists():
        (folder / "pairs.tsv").write_text("".join(f"{row}\t{row.upper()}\n" for row in rows))
    asked = wishes(folder, 10, **loop)
    asked["loop"] = {**asked["loop"], "batch_tokens": 36, "grad_accum": 1}
    del asked["loop"]["batch_size"]
    asked["model"] = {**asked["model"], "d_ff": 32}
    return {**asked, "task": "embed", "tokenizer": {"kind": "words"}, "data": {"sources": [str(folder / "pairs.tsv")]}}


def random_model() -> Any:
    """No weight of which is zero, as some are where training begins."""
    model = build_model(CONFIG, 0)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw) + (parameter.dim() < 2))
    return model


def recipe_of(folder: Path, kind: str) -> Recipe:
    """A complete recipe for processes that divide their work so."""
    asked = wishes(folder, 1, parallel=kind)
    return Recipe.parse({**asked, "tokenizer": {}, "model": CONFIG.model_dump()}, "recipe")


def take_part(folder: Path, steps: int) -> None:
    """What each of the two processes does."""
    from glassformer.training.distributed.launch import taking_part

    seat = find_seat()
    assert seat is not None
    found: dict[str, Any] = {"agree": {}, "forward": {}}
    with taking_part(seat) as topology:
        found["agree"]["any"] = topology.any(topology.rank == 1)
        found["agree"]["none"] = topology.any(False)
        found["agree"]["first"] = topology.of_first(topology.rank)
        for kind in KINDS:
            train_run(
                wishes(folder, steps, parallel=kind), folder / kind, minutes=1, screen=Silence(), topology=topology
            )
            reshard(folder, kind, topology)
            asked = pairs_wishes(folder, parallel=kind)
            train_run(asked, folder / f"{kind}-embed", minutes=1, screen=Silence(), topology=topology)
        ids = torch.randint(19, (3, 16), generator=torch.Generator().manual_seed(0))
        model = random_model()
        plain = model(ids)
        plain.square().sum().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        cut = topology.prepare(random_model(), recipe_of(folder, "tensor"))
        answers = cut(ids)
        answers.square().sum().backward()
        topology.sum_gradients(cut)
        found["forward"]["logits"] = (answers - plain).abs().max().item()
        apart = [
            ((p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad) - gradients[name]).abs().max().item()
            / gradients[name].abs().max().item()
            for name, p in cut.named_parameters()
        ]
        found["forward"]["gradients"] = max(apart)
        found["forward"]["cut"] = sum(hasattr(p, "to_local") for p in cut.parameters())
        try:
            topology.checkpoints(folder / "spoilt", 2).write(spoilt_snapshot(cut, topology.rank))
        except GlassformerError as error:
            found["refused"] = str(error)
    (folder / f"found-{seat.rank}.json").write_text(json.dumps(found))


def reshard(folder: Path, kind: str, topology: Any) -> None:
    """Read what one process saved, and save it again as several do."""
    model, optimisers = build_model(CONFIG, 1), None
    model = topology.prepare(model, recipe_of(folder, kind))
    optimisers = Optimisers(model, OptimiserRecipe())
    checkpoints = topology.checkpoints(folder / f"again-{kind}", 2)
    path = Checkpoints(folder / "alone", 2).found()[0]
    state = restore(path, model, optimisers, None, "data")
    again = checkpoints.save(model, optimisers, None, state, "data")
    model.load_state_dict({name: torch.zeros_like(value) for name, value in model.state_dict().items()})
    restore(again, model, optimisers, None, "data")
    checkpoints.write(checkpoints.snapshot(model, optimisers, None, State(step=8), "data"))


def spoilt_snapshot(model: Any, rank: int) -> Any:
    """A checkpoint in which one process alone holds a number that is none."""
    from glassformer.training.checkpoint import Snapshot

    values = {name: value.detach().clone() for name, value in model.state_dict().items()}
    if rank == 1:
        name = next(name for name, value in values.items() if hasattr(value, "to_local"))
        values[name].to_local()[0, 0] = torch.nan
    return Snapshot(1, {"model.safetensors": values}, {"state.json": "{}"})


class Both:
    """What two processes left in a folder."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder = folder
        draw = random.Random(0)
        words = ["the", "cat", "sat", "on", "a", "mat", "and", "the", "dog", "ran", "to", "a", "door", "of", "rain"]
        pairs_wishes(folder)
        (folder / "words.txt").write_text("".join(" ".join(draw.choices(words, k=6)) + ".\n" for _ in range(200)))
        self.model, self.optimisers = random_parts(CONFIG)
        Checkpoints(folder / "alone", 2).save(self.model, self.optimisers, None, State(step=7), "data")

        def alone() -> None:
            train_run(wishes(folder, steps), folder / "one", minutes=1, screen=Silence())
            train_run(pairs_wishes(folder), folder / "one-embed", minutes=1, screen=Silence())

        run_pair(__file__, folder, steps, meanwhile=alone)
        self.found = [json.loads((folder / f"found-{rank}.json").read_text()) for rank in (0, 1)]

    def losses(self, name: str) -> list[float]:
        """Of every step of a run."""
        rows = [json.loads(line) for line in (self.folder / name / "log.jsonl").read_text().splitlines()]
        return [row["loss"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(tmp_path_factory.mktemp("pair"), steps=10)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_two_processes_are_those_of_one(pair: Both, kind: str) -> None:
    assert pair.losses(kind) == pytest.approx(pair.losses("one"), rel=1e-4)
    assert len(pair.losses(kind)) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_compared_are_compared_with_those_of_all_processes(pair: Both, kind: str) -> None:
    assert pair.losses(f"{kind}-embed") == pytest.approx(pair.losses("one-embed"), rel=1e-4)
    assert len(pair.losses(f"{kind}-embed")) == 10


@pytest.mark.parametrize("run", ["", "-embed"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_film_of_two_processes_is_that_of_one(pair: Both, kind: str, run: str) -> None:
    ours, plain = (read_film(pair.folder / f"{name}{run}" / FILM) for name in (kind, "one"))
    assert ours.header.encoded() == plain.header.encoded()
    assert ours.frames["step"].tolist() == [0, 4, 8, 10]
    for name, dtype, _ in ours.header.fields:
        if dtype == "<i4":  # the likeliest answers, of which some are equally likely
            continue
        atol, rtol = (1, 0) if dtype == "|u1" else (1e-3, 1e-3)
        np.testing.assert_allclose(
            ours.frames[name].astype(float), plain.frames[name].astype(float), rtol, atol, err_msg=name
        )


@pytest.mark.slow
def test_losses_stay_those_of_one_over_a_hundred_steps(tmp_path: Path) -> None:
    long = Both(tmp_path, steps=100)
    for kind in KINDS:
        assert long.losses(kind) == pytest.approx(long.losses("one"), rel=1e-4)
        apart = max(abs(a / b - 1) for a, b in zip(long.losses(kind), long.losses("one"), strict=True))
        print(f"{kind}: losses of 100 steps within {apart:.1e} of those of one process")


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_leave_the_files_of_one(pair: Both, kind: str) -> None:
    def files(name: str) -> set[str]:
        root = pair.folder / name
        return {str(file.relative_to(root)) for file in root.rglob("*") if "checkpoints" not in file.parts}

    assert files(kind) == files("one")
    assert damage(max((pair.folder / kind / "checkpoints").iterdir())) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_goes_from_one_process_to_two_and_back_bit_for_bit(pair: Both, kind: str) -> None:
    path = pair.folder / f"again-{kind}" / "step-00000008"
    assert damage(path) is None
    model = build_model(CONFIG, 5)
    optimisers = Optimisers(model, OptimiserRecipe())
    restore(path, model, optimisers, None, "data")
    for name, value in pair.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    for name, value in flatten(pair.optimisers).items():
        assert torch.equal(flatten(optimisers)[name], value), name


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_goes_on_where_two_stopped(pair: Both, kind: str) -> None:
    """With a checkpoint of ten steps' run in place, and more steps allowed, the averaged weights are there too."""
    newest = max((pair.folder / kind / "checkpoints").iterdir())
    names = {file.name for file in newest.iterdir()}
    assert ("model.safetensors" in names) == (kind == "replicate")
    assert json.loads((newest / "manifest.json").read_text())["step"] == 5


def test_the_tensor_parallel_forward_pass_is_the_plain_one(pair: Both) -> None:
    for found in pair.found:
        assert found["forward"]["cut"] == 14
        assert found["forward"]["logits"] < 1e-5
        assert found["forward"]["gradients"] < 1e-4


def test_processes_agree(pair: Both) -> None:
    for found in pair.found:
        assert found["agree"] == {"any": True, "none": False, "first": 0}


def test_what_one_process_refuses_to_save_none_saves(pair: Both) -> None:
    for found in pair.found:
        assert "holds numbers that are none" in found["refused"]
    assert not list((pair.folder / "spoilt").glob("step-*"))


def test_every_row_belongs_to_one_process_and_portions_are_equally_many() -> None:
    from glassformer.training.distributed.topology import Joined

    for rows, world, portions in ((1, 2, 2), (2, 4, 1), (5, 2, 2), (7, 3, 4), (8, 4, 16), (9, 4, 2)):
        ids = torch.arange(rows)[:, None]
        batch = Batch({"ids": ids}, ids, rows, rows)
        counts, seen = set(), []
        for rank in range(world):
            share = Joined(Seat(rank, world, rank, world)).share(batch).to(torch.device("cpu"))
            parts = list(share.portions(portions))
            counts.add(len(parts))
            assert all(len(part.targets) for part in parts)
            if share.n_targets == rows:
                seen += [row for part in parts for row in part.inputs["ids"][:, 0].tolist()]
            else:  # no row was left for it
                assert 1 / share.n_targets == 0.0
        assert seen == list(range(rows))
        assert len(counts) == 1


@pytest.mark.parametrize(
    ("environment", "seat"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, Seat(1, 4, 1, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, None),  # a script of Slurm's, not a step
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_LOCALID": "1"}, Seat(3, 4, 1, 4)),
    ],
)
def test_a_process_knows_its_seat(environment: dict[str, str], seat: Seat | None) -> None:
    assert find_seat(environment) == seat


@pytest.mark.parametrize(
    "environment", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "x", "RANK": "0"}, {"WORLD_SIZE": "2", "RANK": "2"}]
)
def test_half_an_environment_is_a_mistake(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="RANK"):
        find_seat(environment)


def test_where_the_first_process_waits() -> None:
    seat = Seat(1, 2, 0, 1)
    with pytest.raises(ConfigError, match="MASTER_ADDR and MASTER_PORT"):
        meet_at({}, seat)
    found = meet_at({"SLURM_STEP_NODELIST": "gpu[07-12,20],other", "SLURM_JOB_ID": "123456"}, seat)
    assert found["MASTER_ADDR"] == "gpu07"
    assert 20_000 <= int(found["MASTER_PORT"]) < 40_000
    for nodes, first in (("n1", "n1"), ("n1,n2", "n1"), ("a-[3,5]", "a-3"), ("n[1-2]-ib", "n1-ib")):
        assert first_host(nodes) == first


def test_how_many_processes_are_started() -> None:
    assert how_many(None, "cpu", None) == 1
    assert how_many(3, None, None) == 3
    assert how_many(2, None, Seat(0, 2, 0, 2)) == 1  # they are here already
    for asked, seat in ((0, None), (3, Seat(0, 2, 0, 2))):
        with pytest.raises(ConfigError, match="--nproc"):
            how_many(asked, None, seat)


@pytest.mark.parametrize(
    ("more", "clause"),
    [
        ({"loop": {"parallel": "tensor"}, "model": {"n_kv_heads": 1}}, "model.n_kv_heads=1 does not divide"),
        ({"loop": {"parallel": "tensor"}, "model": {"positions": "alibi"}}, "model.positions=alibi cannot"),
        ({"data": {"sources": ["-"]}}, "standard input"),
    ],
)
def test_what_processes_cannot_do_is_refused(more: dict[str, Any], clause: str) -> None:
    from glassformer.training.distributed.topology import Joined
    from glassformer.training.tasks.text import Text

    asked = wishes(Path(), 1)
    for part, values in more.items():
        asked[part] = {**asked.get(part, {}), **values}
    asked["model"]["vocab_size"] = 19
    recipe = Recipe.parse({**asked, "tokenizer": {}}, "recipe")
    with pytest.raises(ConfigError, match=clause):
        Joined(Seat(0, 2, 0, 2)).refuse(recipe, Text.__new__(Text))


@pytest.mark.parametrize("shape", ["decoder", "encoder_decoder"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_forgetful_blocks_have_the_same_gradients(shape: str, dropout: float) -> None:
    config = ModelConfig.parse({**CONFIG.model_dump(), "shape": shape, "dropout": dropout})
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(19, (2, 9), generator=draw)
    inputs = {"ids": ids} if shape == "decoder" else {"ids": ids, "source": ids.flip(1)}
    kept = []
    for forgetful in (False, True):
        model = build_model(config, 0).train()
        names = list(model.state_dict())
        passes = []
        for block in model.decoder.blocks:
            block.mlp.register_forward_pre_hook(lambda *_: passes.append(1))  # noqa: B023
        if forgetful:
            recompute_blocks(model)
        assert list(model.state_dict()) == names
        torch.manual_seed(0)
        model(**inputs).square().sum().backward()
        assert len(passes) == config.n_layers * (2 if forgetful else 1)  # forward, and again for the gradient
        kept.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in kept[0].items():
        assert torch.equal(kept[1][name], gradient), name


@pytest.mark.parametrize(("cores", "threads"), [(8.0, "4"), (3.0, "1"), (0.5, "1")])
def test_processes_share_the_cores_that_their_container_has(
    monkeypatch: pytest.MonkeyPatch, cores: float, threads: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(launcher, "elastic_launch", lambda config, program: lambda *arguments: None)
    assert launch(2, ["train"]) == 0
    assert environment["OMP_NUM_THREADS"] == threads


if __name__ == "__main__":
    take_part(Path(sys.argv[1]), int(sys.argv[2]))
