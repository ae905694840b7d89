"""What a beam search considered: each candidate, what became of it and why, as a tree that can be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

State = Literal["kept", "pruned", "finished"]


@dataclass(frozen=True, slots=True)
class BeamNode:
    """A token after the tokens of its parent (None: after the prompt). `step` counts from 0, `rank` from 1.

    `rank` is its place among the candidates of its step, None for one that a rule forbade. `why` says what ended it, and
    is empty for one that was gone on from.
    """

    id: int
    parent: int | None
    step: int
    token: int
    log_p: float
    cumulative: float
    score: float
    rank: int | None
    state: State
    why: str = ""


@dataclass(frozen=True, slots=True)
class BeamTree:
    """All that was considered after one prompt, step by step; `nodes[i].id == i`, and parents come before children."""

    prompt_ids: tuple[int, ...]
    nodes: tuple[BeamNode, ...]

    def path(self, node: int) -> tuple[int, ...]:
        """The tokens from the first after the prompt to this node."""
        tokens: list[int] = []
        at: int | None = node
        while at is not None:
            tokens.append(self.nodes[at].token)
            at = self.nodes[at].parent
        return tuple(reversed(tokens))


class Recorder:
    """Collects the nodes of one search."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self.prompt = tuple(prompt)
        self.nodes: list[BeamNode] = []

    def add(
        self,
        parent: int | None,
        step: int,
        token: int,
        log_p: float,
        cumulative: float,
        score: float,
        rank: int | None,
        state: State,
        why: str,
    ) -> int:
        """The id of a new node."""
        node = BeamNode(len(self.nodes), parent, step, token, log_p, cumulative, score, rank, state, why)
        self.nodes.append(node)
        return node.id

    def prune(self, node: int, why: str) -> None:
        """What was kept is not gone on from after all."""
        self.nodes[node] = replace(self.nodes[node], state="pruned", why=why)

    def tree(self) -> BeamTree:
        """The tree so far."""
        return BeamTree(self.prompt, tuple(self.nodes))
