"""Tokens of a text exchanged for others: which, and what the model is given then."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from torch import Tensor

from glassformer.errors import ConfigError, nearest
from glassformer.lens.glass.trace import Tokens, Trace
from glassformer.lens.places import find_entry
from glassformer.lens.recording import given_to, positions_of, read_by, stack_of

NewToken: TypeAlias = tuple[int, int | str] | tuple[str, int, int | str]


class Exchange(NamedTuple):
    """A token of a stack's text that becomes another, and the same in words."""

    stack: str
    at: int
    id: int
    label: str
    says: str


def new_tokens(token: NewToken | Sequence[NewToken] | str) -> list[NewToken]:
    """One or several; as text ``POSITION=TOKEN`` or ``STACK:POSITION=TOKEN``."""
    if isinstance(token, str):
        found = re.fullmatch(r"(?:(?P<side>\w+):)?(?P<at>-?\d+)=(?P<label>.+)", token, re.DOTALL)
        if found is None:
            raise ConfigError(f"token={token!r}: expected POSITION=TOKEN or STACK:POSITION=TOKEN, like 3=a")
        at, label = int(found["at"]), found["label"]
        return [(at, label) if found["side"] is None else (found["side"], at, label)]
    return [token] if token and isinstance(token[0], int | str) else list(token)  # type: ignore[list-item]


def new_token(trace: Trace, token: NewToken) -> Exchange:
    """A token that is put into a text in the place of another. Raises ConfigError."""
    side, at, label = token if len(token) == 3 else (trace.stack, *token)
    if side not in trace.tokens:
        raise ConfigError(f"token: {side!r} is not one of {', '.join(trace.tokens)}{nearest(side, trace.tokens)}")
    read = trace.tokens[side]
    if f"{side}.ids" not in trace.replay.given:
        raise ConfigError(f"token: the {side} reads vectors, and no token stands there that could be another")
    if not -len(read) <= at < len(read):
        raise ConfigError(f"token: position {at} is out of range: the text has 0 to {len(read) - 1}")
    at %= len(read)
    id = token_id(trace, side, label)
    known = dict(zip(read.ids, read.labels, strict=True))
    if side == trace.stack and trace.model.config.head == "tokens" and id < len(trace.vocabulary):
        known[id] = trace.vocabulary[id]
    name = known.get(id, f"id {id}")
    return Exchange(side, at, id, name, f"token {at} of the {side} is '{name}', no longer '{read.labels[at]}'")


def token_id(trace: Trace, side: str, label: int | str) -> int:
    """The id of a token; by its text where the labels of all ids are known, or it stands in this text. Raises ConfigError."""
    size = getattr(trace.model, side).config.vocab_size
    if side == trace.stack and trace.model.config.head == "tokens":
        return find_entry(trace.vocabulary, label, "token")
    read = trace.tokens[side]
    if isinstance(label, str) and not label.isdecimal():
        spelt = label.replace(" ", "␣")
        if spelt not in read.labels:
            raise ConfigError(f"token={label!r} does not stand in this text: give its id, 0 to {size - 1}")
        return read.ids[read.labels.index(spelt)]
    if not 0 <= int(label) < size:
        raise ConfigError(f"token={label} is out of range: the {side} knows ids 0 to {size - 1}")
    return int(label)


def with_tokens(trace: Trace, exchanged: Sequence[Exchange]) -> tuple[dict[str, Tokens], dict[str, Tensor]]:
    """The tokens of each stack after an exchange, and what the model is given then."""
    given = dict(trace.replay.given)
    if not exchanged:
        return dict(trace.tokens), given
    tokens = dict(trace.tokens)
    for side, at, id, label, _ in exchanged:
        given[f"{side}.ids"] = given[f"{side}.ids"].clone()
        given[f"{side}.ids"][:, at] = id
        was = tokens[side]
        ids, labels = ((*row[:at], new, *row[at + 1 :]) for row, new in ((was.ids, id), (was.labels, label)))
        tokens[side] = Tokens(ids, labels)  # type: ignore[arg-type]
    name = stack_of(trace.model)
    again = given_to(  # what follows from the ids, such as the rows of pairs
        trace.model,
        given[f"{name}.ids"],
        at=given[f"{name}.at"],
        source=read_by("encoder", given) if name == "decoder" and "encoder.at" in given else None,
        source_at=positions_of("encoder", given) if name == "decoder" and "encoder.at" in given else None,
        documents=given.get(f"{name}.documents"),
        prefix=given.get(f"{name}.prefix"),
    )
    return tokens, given | again
