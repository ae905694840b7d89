"""A model's parameters, out to the names of a family and back in: every tensor used once, or named in an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glassformer.checkpoints.families import Family
from glassformer.checkpoints.families.rules import Rule, Shape, shown
from glassformer.checkpoints.tensors import Tensors
from glassformer.errors import CheckpointError
from glassformer.models import MODELS, Model, ModelConfig

WRAPPER = "_orig_mod."  # what `torch.compile` puts into the names of what it wraps
ABSURD = 100  # numbers per byte; a file that only lacks some tensors is told which
SHOWN = 6  # names in an error about many tensors


def to_file(model: Model, family: Family) -> dict[str, Tensor]:
    """The tensors of the file that holds this model, by their names there."""
    ours = parameters(model)
    return {rule.theirs: rule.join(ours) for rule in family.rules_for(ours, model.config.n_layers)}


def from_file(
    config: ModelConfig, family: Family, file: Tensors, dtype: torch.dtype | None, device: torch.device | str
) -> Model:
    """A model with the weights of a file, in evaluation mode. `dtype` None keeps the file's. Raises CheckpointError."""
    refuse_absurd_sizes(config, file)
    with Unfilled():
        model = MODELS[config.shape](config)
    ours = {name: tuple(parameter.shape) for name, parameter in parameters(model).items()}
    rules = family.rules_for(ours, config.n_layers)
    stored = stored_names(file, family)
    tied = ties(model)
    for name, first in tied.items():
        check_tie(file, stored, family, name, first)
    check_names(file, stored, rules)
    check_shapes(file, stored, rules, ours)
    state: dict[str, Tensor] = {}
    for rule in rules:
        for name, piece in rule.split(file.read(stored[rule.theirs]), ours).items():
            # A copy, since the mapped file may be written anew while the model lives.
            values = piece.to(device, dtype or piece.dtype, copy=True, memory_format=torch.contiguous_format)
            state[name] = nn.Parameter(values)
    state |= {name: state[first] for name, first in tied.items()}
    model.load_state_dict(state, assign=True)
    return model.to(device).eval()


def parameters(model: Model) -> dict[str, Tensor]:
    """The parameters by name, each once, seen through the compiler's wrappers."""
    return {name.replace(WRAPPER, ""): parameter.detach() for name, parameter in model.named_parameters()}


def ties(model: Model) -> dict[str, str]:
    """The further names of parameters that have several, each with the first, under which the values are stored."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in every if name != first[id(parameter)]}


class Unfilled(TorchFunctionMode):
    """While it lasts modules come into being without drawing their first values, whose memory is then never touched."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return {"tensor": args[0] if args else None, **(kwargs or {})}["tensor"]
        return func(*args, **(kwargs or {}))


def refuse_absurd_sizes(config: ModelConfig, file: Tensors) -> None:
    """Raise CheckpointError, before anything is allocated, where the model is out of all proportion to its file."""
    numbers = fewest_numbers(config)
    if config.shape == "encoder_decoder":
        source = config.source_side()
        numbers += fewest_numbers(source) - config.shared_embedding * source.vocab_size * source.d_model
    if numbers > ABSURD * file.bytes:
        raise CheckpointError(
            f"{file.where}: has {file.bytes:,} bytes, while config.json calls for at least {numbers:,} numbers"
        )


def fewest_numbers(config: ModelConfig) -> int:
    """What a stack's embedding and the attentions and MLPs of its layers hold at the least."""
    per_layer = config.d_model * ((config.n_heads + config.n_kv_heads) * (config.d_head + config.d_value) + config.d_ff)
    rows = config.vocab_size + (config.max_len if config.positions == "learned" else 0) + (config.bigram or 0)
    return config.d_model * rows + config.n_layers * per_layer


def stored_names(file: Tensors, family: Family) -> dict[str, str]:
    """The file's name of each tensor by its full name, without those that follow from the config.

    A bare stack, saved without its head, leaves the prefix out of all names.
    """
    prefix = "" if any(name.startswith(family.prefix) for name in file.names) else family.prefix
    derived = [family.prefix + pattern for pattern in family.derived]
    named = {prefix + name: name for name in file.names}
    return {full: name for full, name in named.items() if not any(fnmatchcase(full, pattern) for pattern in derived)}


def check_tie(file: Tensors, stored: dict[str, str], family: Family, name: str, first: str) -> None:
    """Forget the copy of a tied matrix that some writers store under its other name, as of the embedding as the head.

    Raises CheckpointError where it is no copy.
    """
    untied = family.rules_for((first, name), 0)
    original, copy = (next(rule.theirs for rule in untied if rule.ours == (ours,)) for ours in (first, name))
    if copy not in stored or original not in stored:
        return
    if not torch.equal(file.read(stored[copy]), file.read(stored[original])):
        raise CheckpointError(
            f"{file.where}: {stored[copy]} differs from {stored[original]}, but config.json says that they are tied"
        )
    del stored[copy]


def check_names(file: Tensors, stored: Iterable[str], rules: Iterable[Rule]) -> None:
    """Raise CheckpointError with the tensors that the model has and the file lacks, and the other way round."""
    expected, found = {rule.theirs for rule in rules}, set(stored)
    complaints = [
        f"{verb} {len(names)} tensor{'s' * (len(names) > 1)} ({listed(names)})"
        for verb, names in (("lacks", expected - found), ("holds unexpected", found - expected))
        if names
    ]
    if complaints:
        raise CheckpointError(f"{file.where}: compared with config.json it {' and '.join(complaints)}")


def check_shapes(file: Tensors, stored: Mapping[str, str], rules: Iterable[Rule], ours: Mapping[str, Shape]) -> None:
    """Raise CheckpointError for the first tensor whose shape is not the one that config.json calls for."""
    for rule in rules:
        found, expected = file.shape(stored[rule.theirs]), rule.shape(ours)
        if found != expected:
            raise CheckpointError(
                f"{file.where}: {stored[rule.theirs]} is {shown(found)}, config.json calls for {shown(expected)}"
            )


def listed(names: Iterable[str]) -> str:
    """The first names in order, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
