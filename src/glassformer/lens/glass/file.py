"""Writing a trace to a .glass file, and opening one."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.checkpoints.weights import parameters, ties
from glassformer.errors import CheckpointError, GlassformerError
from glassformer.features import FeatureConfig
from glassformer.lens.glass import manifest as words
from glassformer.lens.glass.archive import (
    DTYPES,
    MANIFEST,
    TENSORS,
    VOCABULARY,
    WEIGHTS,
    Filed,
    digest_of_json,
    digest_of_weights,
    pack_json,
    pack_tensors,
    read_archive,
    unpack_json,
    unpack_tensors,
    write_archive,
)
from glassformer.lens.glass.checks import run_checks
from glassformer.lens.glass.points import Points
from glassformer.lens.glass.sizes import (
    BUDGET_MB,
    MEGABYTE,
    WEIGHTS_MB,
    bytes_of,
    fitting,
    lengths_of,
    megabytes,
    shape_of,
)
from glassformer.lens.glass.trace import Trace
from glassformer.lens.graph import Graph
from glassformer.lens.recording import answer, fetch, graph_of, run_again, stack_of
from glassformer.lens.replay import Replay
from glassformer.models import MODELS, Model, ModelConfig


def save_glass(trace: Trace, path: Path, *, budget_mb: float = BUDGET_MB, weights_mb: float = WEIGHTS_MB) -> None:
    """Write a trace, whole or not at all. See `Trace.save`."""
    replay, model = trace.replay, trace.model
    sizes = {name: size for name, size in sizes_of(trace).items() if name in replay.points}
    held = replay.points.held if isinstance(replay.points, Points) else replay.points
    kept = fitting(sizes, [name for name in sizes if name in held], budget_mb * MEGABYTE)
    left = [name for name in sizes if name not in set(kept)]
    tensors = {name: words.compact(name, replay.points[name]) for name in kept}
    stats = {name: described(tensor) for name, tensor in tensors.items()} | stats_in_passing(trace, left)
    if trace.plain.numel() * trace.plain.element_size() <= budget_mb * MEGABYTE - sum(sizes[name] for name in kept):
        tensors[words.PLAIN] = trace.plain
    tensors |= {f"{words.GIVEN}{name}": tensor for name, tensor in replay.given.items()}
    if trace.draws:
        tensors[words.LOGITS_OF_DRAWS] = torch.stack([drawn.logits for drawn in trace.draws])
    weights = parameters(model)
    size = sum(weight.numel() * weight.element_size() for weight in weights.values())
    embedded = size <= weights_mb * MEGABYTE
    rows = [
        words.describe_point(
            replay.graph[name],
            (1, *shape_of(replay.graph[name], model, lengths_of(replay.given))),
            *stats[name],
            stored=name in tensors,
        )
        for name in sizes
    ]
    vocabulary = pack_json(trace.vocabulary)
    digest = digest_of_weights(weights)
    told: dict[str, Any] = {
        "glass": words.VERSION,
        "id": hashlib.sha256(f"{digest} {trace.tokens}".encode()).hexdigest()[:16],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **words.versions(),
        "model": words.describe_model(trace, digest, embedded=embedded, size=size),
        "run": {"attention": {"*": "explicit"}, **trace.settings},
        "text": {"read": trace.text, "notes": list(trace.notes)},
        "tokens": {name: words.describe_tokens(tokens) for name, tokens in trace.tokens.items()},
        "vocabulary": {"store": VOCABULARY, "size": len(trace.vocabulary), "sha256": sha256(vocabulary)},
        "loss": {"smoothing": smoothing_of(replay.graph)},
        "points": rows,
        "derived": words.describe_derived(replay.graph),
        "tensors": {name: words.stats_of(tensor) for name, tensor in tensors.items() if name not in stats},
        "checks": words.describe_checks(run_checks(trace, everywhere=not left)),
        "events": words.describe_events(trace.draws, trace.tree),
    }
    told["sha256"] = digest_of_json(told)
    entries = {MANIFEST: pack_json(told), VOCABULARY: vocabulary, TENSORS: pack_tensors(tensors)}
    write_archive(path, entries | ({WEIGHTS: pack_tensors(weights)} if embedded else {}))


def sizes_of(trace: Trace) -> dict[str, int]:
    """The bytes of every tensor that the model shows."""
    return bytes_of(trace.replay.graph, trace.model, lengths_of(trace.replay.given))


def smoothing_of(graph: Graph) -> float:
    """The label smoothing of a graph's loss."""
    return float(graph["loss"].constants["ε"]) if "loss" in graph else 0.0


def stats_in_passing(trace: Trace, names: list[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """What the numbers of tensors are like that are not stored: each is looked at as it comes by, and none is kept."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}

    def look(name: str, x: Tensor) -> None:
        found[name] = described(words.compact(name, x))

    if names:
        run_again(trace.model, trace.replay.given, (), tell={name: partial(look, name) for name in names})
    return found


def described(tensor: Tensor) -> tuple[str, dict[str, Any]]:
    """The type of a tensor's numbers, and what they are like."""
    return DTYPES[tensor.dtype], words.stats_of(tensor)


def open_glass(path: Path | str, model: Model | None = None) -> Trace:
    """The trace that a file holds, with its model: the one in the file, or `model` where only its digest is in there.

    Raises CheckpointError for a file that is damaged or something else, for a model that is not the one that was traced,
    and where there is none.
    """
    path = Path(path)
    entries = read_archive(path)
    told = unpack_json(entries[MANIFEST], f"{path}: {MANIFEST}")
    with understood(path):
        if told.get("glass") != words.VERSION:
            raise CheckpointError(
                f"{path}: is a trace of version {told.get('glass')!r} and this program reads version {words.VERSION}"
            )
        model = model_of(path, told["model"], entries.get(WEIGHTS), model)
        return trace_from(path, told, entries, model)


@contextmanager
def understood(path: Path) -> Generator[None]:
    """Turn whatever goes wrong while an unknown file is taken apart into one sentence."""
    try:
        yield
    except GlassformerError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: is damaged ({error})") from None
    except KeyError as error:
        raise CheckpointError(f"{path}: is damaged or no trace of ours: {error.args[0]!r} is missing in it") from None
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: is damaged or no trace of ours ({reason})") from None


def model_of(path: Path, told: Mapping[str, Any], packed: bytes | None, model: Model | None) -> Model:
    """The model that was traced. Raises CheckpointError."""
    expected = str(told["weights_sha256"])
    if model is not None:
        found = digest_of_weights(parameters(model))
        if found != expected or model.config != ModelConfig.parse(told["config"], str(path)):
            raise CheckpointError(
                f"{path}: was made with other weights than those of the model given"
                f" (sha256 {expected[:12]} against {found[:12]}); give the run that it was made with"
            )
        return model
    if packed is None:
        size = megabytes(words.number(told["weights_bytes"]))
        raise CheckpointError(
            f"{path}: holds no weights, which have {size}; give the run that it was made with (--model)"
        )
    return build(
        path, ModelConfig.parse(told["config"], f"{path}: config"), unpack_tensors(packed, f"{path}: {WEIGHTS}")
    )


def build(path: Path, config: ModelConfig, weights: Mapping[str, Tensor]) -> Model:
    """A model of these weights. Raises CheckpointError where they are not those that the config calls for."""
    if config.n_layers > len(weights):
        raise CheckpointError(
            f"{path}: the config calls for {config.n_layers:,} layers and there are {len(weights)} tensors"
        )
    with torch.device("meta"):  # sizes without memory
        model = MODELS[config.shape](config)
    wanted = {name: tuple(parameter.shape) for name, parameter in parameters(model).items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != found:
        odd = next(iter(sorted(set(wanted.items()) ^ set(found.items()))))
        raise CheckpointError(f"{path}: the weights are not those of the config: {odd[0]} differs or is missing")
    state: dict[str, Tensor] = {name: nn.Parameter(tensor, requires_grad=False) for name, tensor in weights.items()}
    state |= {name: state[first] for name, first in ties(model).items()}
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def trace_from(path: Path, told: Mapping[str, Any], entries: Mapping[str, bytes], model: Model) -> Trace:
    """The trace of a manifest and its tensors."""
    tensors = unpack_tensors(entries[TENSORS], f"{path}: {TENSORS}")
    given = {name.removeprefix(words.GIVEN): tensor for name, tensor in tensors.items() if name.startswith(words.GIVEN)}
    check_given(given, model)
    features = told["run"].get("features")
    config = None if features is None else FeatureConfig.parse(features, "features")
    graph = graph_of(model, given, words.number(told["loss"]["smoothing"]), config)
    lengths = lengths_of(given)
    sizes = bytes_of(graph, model, lengths)
    rows = {str(row["name"]): row for row in told["points"]}
    stored = {name: tensors[name] for name, row in rows.items() if row["state"] == "stored"}
    for name in rows:
        expected = (1, *shape_of(graph[name], model, lengths))
        if name in stored and tuple(stored[name].shape) != expected:
            raise CheckpointError(f"{path}: {name} is {tuple(stored[name].shape)}, the model calls for {expected}")
    again = partial(fetch, model, given)
    lazy = {name: sizes[name] for name in rows if name not in stored}
    events = told["events"]
    return Trace(
        model=model,
        task=str(told["model"]["task"]),
        text=str(told["text"]["read"]),
        tokens={str(name): words.read_tokens(tokens) for name, tokens in told["tokens"].items()},
        replay=Replay(model, graph, Points(stored, lazy, again, BUDGET_MB * MEGABYTE), given),
        plain=tensors[words.PLAIN] if words.PLAIN in tensors else answer(model, given),
        notes=tuple(str(note) for note in told["text"]["notes"]),
        draws=words.read_draws(events, tensors.get(words.LOGITS_OF_DRAWS)),
        tree=words.read_tree(events),
        vocabulary=tuple(map(str, unpack_json(entries[VOCABULARY], f"{path}: {VOCABULARY}"))),
        settings={key: value for key, value in told["run"].items() if key != "attention"},
        filed=Filed(told, tensors, sha256(entries[VOCABULARY])),
    )


def check_given(given: Mapping[str, Tensor], model: Model) -> None:
    """Raise ValueError for ids and positions that the model cannot be given."""
    for name in {"encoder", "decoder"} & set(dir(model)):
        stack = getattr(model, name)
        if name == "encoder" and model.config.vectors is not None:
            check_vectors(given, model.config.vectors.size)
            continue
        ids, at = given[f"{name}.ids"], given[f"{name}.at"]
        if ids.dim() != 2 or ids.shape[0] != 1 or ids.shape != at.shape or {ids.dtype, at.dtype} != {torch.int64}:
            raise ValueError(f"{name}.ids and {name}.at are no tokens and positions of one text")
        if not (int(ids.min()) >= 0 and int(ids.max()) < stack.config.vocab_size and int(at.max()) < stack.max_len):
            raise ValueError(f"{name}.ids or {name}.at hold what the model does not have")
    if "targets" in given and given["targets"].shape != given[f"{stack_of(model)}.at"].shape:
        raise ValueError("the targets are not one for each token")


def check_vectors(given: Mapping[str, Tensor], size: int) -> None:
    """Raise ValueError for vectors that the model cannot be given."""
    vectors, at = given["encoder.vectors"], given["encoder.vectors_at"]
    if vectors.dim() != 3 or vectors.shape[0] != 1 or vectors.shape[2] != size or not vectors.is_floating_point():
        raise ValueError(f"encoder.vectors are no vectors of {size} channels")
    if vectors.shape[:2] != at.shape or given["encoder.at"].dim() != 2 or {at.dtype} != {torch.int64}:
        raise ValueError("encoder.vectors_at and encoder.at are no positions of these vectors")
    if "sound.samples" in given and (given["sound.samples"].dim() != 2 or given["sound.samples"].shape[0] != 1):
        raise ValueError("sound.samples are no samples of one sound")


def sha256(content: bytes) -> str:
    """The hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()
