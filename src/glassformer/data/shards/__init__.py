"""Token shards: text of any amount to memory-mapped files of ids, made in bounded memory, checked, and read as one."""

from __future__ import annotations

from glassformer.data.shards.executors import Submitted, prepare_by
from glassformer.data.shards.making import Spec, prepare_part
from glassformer.data.shards.manifest import Shards, is_shards, open_shards, tokenizer_digest
from glassformer.data.shards.parts import Part, plan_parts
from glassformer.data.shards.preparing import TokenizerChoice, prepare
from glassformer.data.shards.rows import Reading
from glassformer.data.shards.shard import Header, Shard

__all__ = [
    "Header",
    "Part",
    "Reading",
    "Shard",
    "Shards",
    "Spec",
    "Submitted",
    "TokenizerChoice",
    "is_shards",
    "open_shards",
    "plan_parts",
    "prepare",
    "prepare_by",
    "prepare_part",
    "tokenizer_digest",
]
