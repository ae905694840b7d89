"""The walk through one run: a section for each tensor of the layer that is followed, in the order in which they are computed."""

# T tokens, D model

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from glassformer.lens.explain.drawing import Drawing, drawn_sections
from glassformer.lens.explain.extras import LABEL_WIDTH, Spot, extras
from glassformer.lens.explain.followed import Followed
from glassformer.lens.explain.sections import Pen, section_of
from glassformer.lens.glass import Trace
from glassformer.lens.hearing import reach_of, seconds_of_trace
from glassformer.lens.layout import shorten
from glassformer.lens.parts import Line, Section, Table
from glassformer.lens.recipes import Node

LISTED_TOKENS = 24  # the longest text that is listed whole
ENDS, BEFORE = 4, 7  # tokens listed of a longer one: at either end, and before the asking token
SUBLAYERS = ("attention.out", "cross_attention.out", "mlp.out")


def walk(trace: Trace, followed: Sequence[Followed], drawing: Drawing, pen: Pen) -> Iterator[Section]:
    """All sections. `followed`: for each stack that is walked through; of another stack there is one section alone."""
    stacks = {each.stack: each for each in followed}
    for stack in trace.tokens:
        if stack in stacks:
            yield from stack_sections(trace, stacks[stack], pen)
        elif stack == "encoder" or trace.stack not in stacks:
            yield other_stack(trace, stack, followed[-1], pen)
    if trace.stack not in stacks:
        return
    answering = stacks[trace.stack]
    for node in trace.replay.graph.values():
        if node.name.split(".")[0] not in (*trace.tokens, "sound"):  # what comes behind the stacks
            yield full_section(node, answering, pen)
    if trace.task == "text" and trace.model.config.shape == "decoder":
        yield from drawn_sections(answering, drawing, pen)


def stack_sections(trace: Trace, followed: Followed, pen: Pen) -> Iterator[Section]:
    """One stack: its tokens, what happens before the layers, the layer that is followed, and what comes behind."""
    if f"{followed.stack}.vectors" in followed.trace.replay.given:
        yield from heard_sections(followed, pen)
    elif pen.depth == "numbers":
        yield tokens(followed)
    layers_told = set[str]()
    for node in trace.replay.graph.values():
        if node.name.split(".")[0] != followed.stack:
            continue
        layer = layer_of(node.name)
        if layer is None or layer == followed.layer:
            yield full_section(node, followed, pen)
            continue
        step = "layers_below" if layer < followed.layer else "layers_above"
        if step not in layers_told and pen.depth == "numbers":
            layers_told.add(step)
            yield other_layers(followed, step, pen)


def layer_of(name: str) -> int | None:
    """The number of the block that a tensor belongs to, if any."""
    _, found, rest = name.partition(".blocks.")
    return int(rest.partition(".")[0]) if found else None


def full_section(node: Node, followed: Followed, pen: Pen) -> Section:
    """A tensor with everything that there is to show about it."""
    cell = followed.cell(node)
    section = section_of(node, cell, followed, pen)
    if pen.depth != "numbers":
        return section
    return replace(section, body=(*section.body, *extras(Spot(node, cell, followed, pen.numbers))))


def tokens(followed: Followed) -> Section:
    """The ids that a stack reads."""
    count, p = len(followed.tokens), followed.position
    listed = set(range(count))
    if count > LISTED_TOKENS:
        listed = {*range(ENDS), *range(max(p - BEFORE, 0), p + 1), *range(count - ENDS, count)}
    rows: list[tuple[str, str, str, str]] = []
    for at in sorted(listed):
        if at and at - 1 not in listed:
            rows.append(("…", "", "", ""))
        label, id = shorten(followed.tokens.labels[at], LABEL_WIDTH), str(followed.tokens.ids[at])
        rows.append((str(at), label, id, "← asks" if at == p else ""))
    what = "the text"
    if len(followed.trace.tokens) > 1:
        what = (
            "the source, which the encoder reads,"
            if followed.stack == "encoder"
            else "the target, as far as it is written,"
        )
    return Section(
        "TOKENS" if len(followed.trace.tokens) == 1 else f"TOKENS OF THE {followed.stack.upper()}",
        f"{what} in {count:,} piece{'s' if count > 1 else ''}, each known to the model by its number alone.",
        body=(Table(("position", "token", "id", ""), tuple(rows), "><><"),),
        step=f"{followed.stack}.tokens",
    )


def heard_sections(followed: Followed, pen: Pen) -> Iterator[Section]:
    """What a stack of vectors reads, and how the vectors came from a sound, where they did."""
    given, seconds = followed.trace.replay.given, seconds_of_trace(followed.trace)
    vectors = given[f"{followed.stack}.vectors"]
    if pen.depth == "numbers":
        count, size = vectors.shape[1:]
        every = f", one every {1000 * seconds:g} ms" if seconds is not None else ""
        reads = followed.config.vectors
        assert reads is not None
        heard = reach_of(reads.strides)
        left = len(followed.tokens)
        lines: list[Line] = [
            f"{count:,} vectors of {size} numbers{every}; the convolutions leave {left:,} places of them."
        ]
        if "sound.samples" in given:
            rate = followed.trace.settings["features"]["rate"]
            wave = given["sound.samples"][0]
            lines.insert(0, f"{len(wave):,} samples, {rate:,} a second: {len(wave) / rate:.2f} seconds.")
        lines.append(
            f"P{followed.token(followed.position)[1:]} hears {heard} vector{'s' * (heard > 1)} around vector"
            f" {followed.ear.vector}, of which the largest number is that of channel {followed.ear.channel}."
        )
        says = "a sound, cut into short frames, each a vector" if "sound.samples" in given else "vectors, as they come"
        yield Section("WHAT IS HEARD", f"{says}.", body=tuple(lines), step=f"{followed.stack}.tokens")
    for node in followed.trace.replay.graph.values():
        if node.name.startswith("sound."):
            yield full_section(node, followed, pen)


def other_layers(followed: Followed, step: str, pen: Pen) -> Section:
    """The layers before or behind the one walked through: one line for each."""
    below = step == "layers_below"
    which = range(followed.layer) if below else range(followed.layer + 1, followed.config.n_layers)
    return Section(
        "LAYERS BELOW" if below else "LAYERS ABOVE",
        f"the same steps again; here only the length of the vector of {followed.token(followed.position)},"
        " and of what is added to it.",
        formula=("‖x‖ = √(Σ_d x[d]²)",),
        body=(lengths(followed.trace, followed.stack, followed.position, which, pen),),
        step=f"{followed.stack}.{step}",
    )


def other_stack(trace: Trace, stack: str, followed: Followed, pen: Pen) -> Section:
    """The stack that is not walked through."""
    at = len(trace.tokens[stack]) - 1
    if stack == "encoder" and followed.stack == "decoder":
        at = followed.key(f"{followed.place}.cross_attention.pattern")
    layers = sum(name.startswith(f"{stack}.blocks.") and name.endswith(".resid_pre") for name in trace.replay.graph)
    return Section(
        f"THE {stack.upper()}",
        f"{len(trace.tokens[stack]):,} tokens go through {layers} layer{'s' if layers != 1 else ''} of its own;"
        f" here only the length of the vector of {followed.token(at, trace.tokens[stack])}, and of what is added to it."
        f" --side {stack} walks through it.",
        body=(lengths(trace, stack, at, range(layers), pen),) if layers else (),
        step=stack,
    )


def lengths(trace: Trace, stack: str, at: int, layers: range, pen: Pen) -> Table:
    """How long a token's vector is before, what the sublayers add, and how long it is after each layer."""
    graph, show = trace.replay.graph, pen.numbers.show
    sublayers = [name for name in SUBLAYERS if f"{stack}.blocks.{layers[0]}.{name}" in graph]
    points = ("resid_pre", *sublayers, "resid_post")
    rows = tuple(
        (str(layer), *(show(float(trace[f"{stack}.blocks.{layer}.{point}"][0, at].norm())) for point in points))
        for layer in layers
    )
    names = (f"‖{name.removesuffix('.out').replace('cross_attention', 'cross')}‖" for name in sublayers)
    return Table(("layer", "‖x‖ in", *names, "‖x‖ out"), rows, ">" * (len(points) + 1))
