"""Proofs about one training step: cut into portions, or shared by several processes, it has the gradient of the whole."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glassformer.checkpoints import save_model
from glassformer.lens.prove.finding import Finding, Unchecked, compare_gradients, does_not_apply, not_checked
from glassformer.lens.prove.subject import Step, Subject
from glassformer.training.loop import accumulate_gradients
from glassformer.training.tasks import Batch

PORTIONS = 3  # which few batches divide by evenly
PROCESSES = 2
PATIENCE = 180  # seconds for the processes to start, meet and answer
COMPARED = "each text of a batch is compared with all of it, which cannot be cut"


def accumulated(subject: Subject) -> Finding | Unchecked:
    """The gradient of one step in portions, as `loop.grad_accum` makes them, against that of the whole batch."""
    step = usable_step(subject)
    if isinstance(step, Unchecked):
        return step
    portions = min(PORTIONS, len(step.batch.targets))
    return compare_gradients(subject.model, learnt(subject, step, portions), learnt(subject, step, 1))


def usable_step(subject: Subject) -> Step | Unchecked:
    """The step to cut, or why there is none."""
    if subject.model.config.head == "pooled":
        return does_not_apply(COMPARED)
    if subject.hears:
        return not_checked("training steps on vectors are not proved yet")
    return subject.step or not_checked("a step with several rows is needed, and there is one text")


def learnt(subject: Subject, step: Step, portions: int) -> dict[str, Tensor]:
    """The gradients of a step on a copy of the model, without dropout, which is drawn for each portion by itself."""
    model = copy.deepcopy(subject.model).eval().requires_grad_(True)
    recipe = step.recipe.updated({"loop.grad_accum": portions, "loop.dtype": "float32"})
    accumulate_gradients(model, model, step.work, step.batch, recipe)
    return gradients_of(model)


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """Every gradient by the name of its weight."""
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def processes(subject: Subject) -> Finding | Unchecked:
    """The batch of a step shared by processes that add up their gradients (gloo), against one process. This is the sum
    that training in several processes rests on, not such a training."""
    step = usable_step(subject)
    if isinstance(step, Unchecked):
        return step
    if not torch.distributed.is_available():
        return not_checked("this torch cannot let processes talk to each other")
    expected = {name: gradient.cpu() for name, gradient in learnt(subject, step, 1).items()}
    with tempfile.TemporaryDirectory(prefix="glassformer-prove-") as place:
        folder = Path(place)
        save_model(folder / "model", subject.model)
        portions = list(step.batch.to(torch.device("cpu")).portions(PROCESSES))
        for rank, portion in enumerate(portions):
            hand_out(portion, folder / f"part-{rank}.safetensors")
        about = {"n_targets": step.batch.n_targets, "smoothing": step.recipe.optimiser.label_smoothing}
        (folder / "step.json").write_text(json.dumps(about), encoding="utf-8")
        fault = run_processes(folder, len(portions))
        if fault is not None:
            return not_checked(f"{len(portions)} processes did not come to an answer ({fault})")
        return compare_gradients(subject.model, load_file(folder / "gradients.safetensors"), expected)


def hand_out(portion: Batch, path: Path) -> None:
    """Write a process's share of the batch."""
    tensors = {f"inputs.{name}": value.contiguous() for name, value in portion.inputs.items()}
    save_file({**tensors, "targets": portion.targets.contiguous()}, path)


def run_processes(folder: Path, n: int) -> str | None:
    """Run `process.py` n times at once. Returns what went wrong, if anything."""
    threads = str(max(1, torch.get_num_threads() // n))
    command = [sys.executable, "-P", "-m", "glassformer.lens.prove.process", str(folder)]
    running = [
        subprocess.Popen(
            [*command, str(rank), str(n)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": threads},
        )
        for rank in range(n)
    ]
    try:
        ends = [process.communicate(timeout=PATIENCE) for process in running]
    except subprocess.TimeoutExpired:
        return f"no answer within {PATIENCE} s"
    finally:
        for process in running:
            process.kill()
            process.wait()
    for process, (_, said) in zip(running, ends, strict=True):
        if process.returncode:
            return (said.strip().splitlines() or [f"exit code {process.returncode}"])[-1][:160]
    return None
