"""What sections show beside the arithmetic of one cell: rows with their tokens, the mask, bars, the likeliest entries."""

# T tokens that ask, S tokens looked at, N entries of what comes out

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from glassformer.lens.arithmetic import Numbers, bar
from glassformer.lens.explain.followed import Followed
from glassformer.lens.explain.words import ELSEWHERE
from glassformer.lens.layout import shorten
from glassformer.lens.parts import Equation, Line, Picture, Table
from glassformer.lens.recipes import Node
from glassformer.ops.masks import RULES

LABEL_WIDTH = 14  # columns that a token may take in a table
LISTED = 12  # tokens that a table of scores or weights lists
TOP = 5  # entries of the vocabulary that tables list
PICTURED = 24  # tokens on a side of the largest mask that is drawn
HEADS_SHOWN = 8
RULE_SIGNS = ("•", "p", "-", "w", "d")  # how the picture of a mask shows each of RULES


@dataclass(frozen=True)
class Spot:
    """A tensor of the model, and which of its cells is followed."""

    node: Node
    cell: tuple[int, ...]
    followed: Followed
    numbers: Numbers

    def row(self, name: str = "", cell: tuple[int, ...] | None = None) -> Tensor:
        """The last axis of a tensor where the others are as in the cell, float64; by default of this tensor."""
        tensor = self.followed.trace[name or self.node.name][0]
        return tensor[(self.cell if cell is None else cell)[: tensor.dim() - 1]]

    def beside(self, point: str) -> str:
        """The name of another tensor of the same module."""
        return f"{self.node.module}.{point}"


Extra = Callable[[Spot], Iterator[Line]]


def scores(spot: Spot) -> Iterator[Line]:
    """The row of scores, with the tokens that are looked at."""
    row, show = spot.row(), spot.numbers.show
    name = f"{spot.node.point}[{spot.cell[1]},j]"
    yield Table(("j", "token", name), tuple((*key(spot, j), show(float(row[j]))) for j in listed(spot)), "><>")
    yield from unlisted(spot)


def shares(spot: Spot) -> Iterator[Line]:
    """The row of attention, with bars."""
    row, show = spot.row(), spot.numbers.show
    masked = spot.row(spot.beside("masked"))
    rows = tuple(
        (
            *key(spot, j),
            "hidden" if masked[j].isneginf() else show(float(masked[j])),
            show(float(row[j])),
            bar(float(row[j])),
        )
        for j in listed(spot)
    )
    yield Table(("j", "token", "masked", "pattern", ""), rows, "><>><")
    yield from unlisted(spot)


def key(spot: Spot, j: int) -> tuple[str, str]:
    """The place and the text of a token that is looked at."""
    return str(j), shorten(spot.followed.trace.keys_of(spot.node.name).labels[j], LABEL_WIDTH)


def listed(spot: Spot) -> list[int]:
    """The tokens that tables list: all of them, or those looked at most."""
    weights = spot.row(spot.beside("pattern"))
    if len(weights) <= LISTED:
        return list(range(len(weights)))
    return sorted(weights.argsort(descending=True, stable=True)[:LISTED].tolist())


def unlisted(spot: Spot) -> Iterator[str]:
    """A sentence about the tokens that a table leaves out."""
    missing = len(spot.row(spot.beside("pattern"))) - len(listed(spot))
    if missing:
        yield f"(the {LISTED} tokens that are looked at most; {missing:,} others are not listed)"


def mask(spot: Spot) -> Iterator[Line]:
    """Who may look at whom, and why the others may not."""
    rules = spot.followed.trace[spot.node.name][0, 0].long()  # T S
    asking = spot.cell[1]
    if max(rules.shape) <= PICTURED:
        yield Picture(tuple(draw_mask(rules, asking)))
    row = rules[asking]
    keys = "source token" if "cross_attention" in spot.node.name else "token"
    yield f"Token {asking} may look at {int(row.eq(0).sum()):,} of {len(row):,} {keys}s."
    for rule in sorted(set(row.tolist()) - {0}):
        which = row.eq(rule).nonzero()[:, 0].tolist()
        span = f"Token {which[0]} is" if len(which) == 1 else f"Tokens {which[0]} to {which[-1]} are"
        yield f"{span} hidden: {RULES[rule]}."


def draw_mask(rules: Tensor, asking: int) -> Iterator[str]:
    """The mask as a rectangle of signs, a row for each asking token, and what the signs mean."""
    for i, row in enumerate(rules.tolist()):
        yield f"{i:>4}  {' '.join(RULE_SIGNS[rule] for rule in row)}{'  ← asks' if i == asking else ''}"
    yield "      " + ", ".join(f"{RULE_SIGNS[rule]} {RULES[rule]}" for rule in sorted(set(rules.flatten().tolist())))


def vector(spot: Spot) -> Iterator[Line]:
    """The first numbers of the vector that the cell belongs to."""
    places = [*map(str, spot.cell[:-1]), spot.node.recipe.axes.split()[-1]]
    yield Equation(f"{spot.node.point}[{','.join(places)}]", breakable_row(spot.numbers.vector(spot.row())))


def breakable_row(written: str) -> tuple[str, ...]:
    """A vector in pieces between which a line may break: ``= [0.1``, ``0.2``, ``… 3 more]``."""
    numbers, more, rest = written.partition(" …")
    first, *others = numbers.split()
    return (f"= {first}", *others, *([f"…{rest}"] if more else []))


def token_vector(spot: Spot) -> Iterator[Line]:
    """The row of the table."""
    asking = spot.cell[0]
    id = spot.followed.trace.tokens[spot.node.name.split(".")[0]].ids[asking]
    yield f"The id of {spot.followed.token(asking)} is {id}, so it is row {id} of E."
    yield from vector(spot)


def entering(spot: Spot) -> Iterator[Line]:
    """Where order enters, if not here."""
    scheme = spot.followed.config.positions
    if spot.beside("position") not in spot.followed.trace.replay.graph:
        yield ELSEWHERE.get(scheme, f"Nothing is added for the position ({scheme}).")


def spoken(spot: Spot) -> Iterator[Line]:
    """The likeliest tokens that CTC hears at the place."""
    followed, show = spot.followed, spot.numbers.show
    row = spot.row()[: followed.n_tokens]
    blank = followed.trace.settings.get("blank")
    label = [f"{followed.entry_label(n)}{' (the blank)' * (n == blank)}" for n in top(row)]
    rows = tuple((name, show(float(row[n])), bar(float(row[n]))) for name, n in zip(label, top(row), strict=True))
    yield Table(("token", "probability", ""), rows, "<><")


def by_head(spot: Spot) -> Iterator[Line]:
    """What each head brings to the channel."""
    followed, config = spot.followed, spot.followed.config
    if config.n_heads == 1:
        return
    i, d = spot.cell
    joined = followed.trace[spot.beside("joined")][0, i]
    row = followed.trace.replay.weights[spot.beside("o_proj.weight")][d].detach().cpu().double()
    shares = (joined * row).unflatten(0, (config.n_heads, config.d_value)).sum(-1)
    yield f"head by head: {spot.numbers.vector(shares, HEADS_SHOWN)}"


def silent(spot: Spot) -> Iterator[Line]:
    """How many neurons say nothing."""
    row = spot.row()
    if count := int(row.eq(0).sum()):
        yield f"{count:,} of {len(row):,} neurons are silent (exactly 0) at this token."
    yield f"Neuron {spot.cell[-1]} is the one that writes most into channel {spot.followed.channel}."


def stream(spot: Spot) -> Iterator[Line]:
    """How long the token's vector is, and what is added to it."""
    before, added = (spot.row(spot.node.inputs[symbol].name, spot.cell) for symbol in ("before", "added"))
    lengths = [spot.numbers.show(float(x.norm())) for x in (before, added, before + added)]
    yield f"‖before‖ = {lengths[0]}, ‖added‖ = {lengths[1]}, ‖before + added‖ = {lengths[2]}"


def likeliest(spot: Spot) -> Iterator[Line]:
    """The entries with the largest logits."""
    row, show = spot.followed.logits, spot.numbers.show
    rows = tuple((spot.followed.entry_label(n), str(n), show(float(row[n]))) for n in top(row))
    yield Table((entry_word(spot), "n", "logit"), rows, "<>>")


def probabilities(spot: Spot) -> Iterator[Line]:
    """The likeliest entries, with bars."""
    followed, show = spot.followed, spot.numbers.show
    row = spot.row()[: followed.n_tokens]
    shown = top(row)
    rows = tuple(
        (followed.entry_label(n), show(float(followed.logits[n])), show(float(row[n])), bar(float(row[n])))
        for n in shown
    )
    yield Table((entry_word(spot), "logit", "probability", ""), rows, "<>><")
    others = len(row) - len(shown)
    if others and not followed.config.several_labels:
        yield f"({others:,} others share {show(max(1 - float(row[shown].sum()), 0.0))})"


def entry_word(spot: Spot) -> str:
    """What the entries are."""
    return "token" if spot.followed.config.head == "tokens" else "label"


def top(row: Tensor) -> list[int]:
    """The entries with the highest scores, highest first, of equal ones the first."""
    return row.argsort(descending=True, stable=True)[:TOP].tolist()


def losses(spot: Spot) -> Iterator[Line]:
    """The right answer, and what all of them cost."""
    trace, at, show = spot.followed.trace, spot.cell[0], spot.numbers.show
    targets = trace.replay.given["targets"][0]
    known = targets >= 0
    if bool(known[at]):
        yield f"What really comes next is '{spot.followed.entry_label(int(targets[at]))}'."
    if bool(known.any()):
        mean = float(trace[spot.node.name][0][known].mean())
        yield f"The mean over {int(known.sum()):,} tokens that have a target is {show(mean)}."


EXTRAS: dict[str, tuple[Extra, ...]] = {  # recipe, or the beginning of its name -> further lines of its sections
    "embedding.token": (token_vector,),
    "embedding.out": (entering, vector),
    "embedding.vectors": (vector,),
    "embedding.mapped": (vector,),
    "convolution.out": (vector,),
    "sound.mel": (vector,),
    "sound.cepstrum": (vector,),
    "residual.sum": (stream,),
    "attention.q": (vector,),
    "attention.k": (vector,),
    "attention.v": (vector,),
    "attention.scores": (scores,),
    "attention.mask_rule": (mask,),
    "attention.pattern": (shares,),
    "attention.z": (vector,),
    "attention.out": (by_head,),
    "mlp.act": (silent,),
    "head.pooled": (vector,),
    "head.out": (vector,),
    "head.logits": (likeliest,),
    "head.probability": (probabilities,),
    "head.chance": (probabilities,),
    "loss": (losses,),
}


def extras(spot: Spot) -> Iterator[Line]:
    """Whatever the table has for a tensor's recipe."""
    if spot.node.name == "ctc.probability":
        yield from spoken(spot)
        return
    name = spot.node.recipe.name
    while name:
        for extra in EXTRAS.get(name, ()):
            yield from extra(spot)
        if name in EXTRAS:
            return
        name = name.rpartition(".")[0]
