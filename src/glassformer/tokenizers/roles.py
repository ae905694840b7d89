"""The special tokens that some models need beside padding and end of text."""

from __future__ import annotations

START = "<|start|>"  # begins a target, or a text that is read as a whole
SEPARATOR = "<|separator|>"  # divides source and target in one row
MASK = "<|mask|>"  # hides a token that is to be filled in
