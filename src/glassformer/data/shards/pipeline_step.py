"""The making of shards as steps of a datatrove pipeline; imported only where datatrove was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep  # pyright: ignore[reportMissingImports]

from glassformer.data.shards.making import Spec, is_made, prepare_part
from glassformer.data.shards.parts import Part
from glassformer.data.shards.preparing import finish
from glassformer.errors import GlassformerError
from glassformer.files import whole_file


class MakeShards(PipelineStep):
    """Each task makes the shards of some parts: every ``world_size``-th, from ``rank`` on, but for those that stand there.

    What a part fails at is written to ``complaints/NUMBER.json``, and the others are made all the same.
    """

    name, type = "glassformer shards", "tokens"

    def __init__(self, parts: Sequence[Part], spec: Spec, complaints: str) -> None:
        super().__init__()
        self.parts, self.spec, self.complaints = list(parts), spec, complaints

    def run(self, data: Iterable[Any] | None = None, rank: int = 0, world_size: int = 1) -> Iterable[Any]:
        for number in range(rank, len(self.parts), world_size):
            part = self.parts[number]
            try:
                if is_made(number, part, self.spec):
                    self.stat_update("kept")
                    continue
                header = prepare_part(number, part, self.spec)
            except GlassformerError as error:
                self.stat_update("failed")
                with whole_file(Path(self.complaints) / f"{number:05}.json") as path:
                    path.write_text(json.dumps(str(error)), encoding="utf-8")
                continue
            for counted in ("tokens", "documents", "rows", "quarantined", "empty"):
                self.stat_update(counted, value=getattr(header, counted), unit="shard")
        return data or ()


class FinishShards(PipelineStep):
    """The one task that comes last: what is quarantined is joined, and the manifest is written."""

    name, type = "glassformer manifest", "tokens"

    def __init__(self, parts: Sequence[Part], spec: Spec, complaints: str, most_bad: float) -> None:
        super().__init__()
        self.parts, self.spec, self.complaints, self.most_bad = list(parts), spec, complaints, most_bad

    def run(self, data: Iterable[Any] | None = None, rank: int = 0, world_size: int = 1) -> Iterable[Any]:
        from glassformer.data.shards.executors import check_all_made

        check_all_made(self.parts, self.spec, Path(self.complaints))
        finish(self.parts, Path(self.spec.folder), self.most_bad)
        return data or ()
