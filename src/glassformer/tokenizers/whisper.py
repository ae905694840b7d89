"""The special tokens of Whisper by what they are for (Radford et al. 2022, section 2.3); which ids they have, a folder says."""

from __future__ import annotations

START, END = "<|startoftranscript|>", "<|endoftext|>"
NO_TIMES, PREVIOUS, LANGUAGE_MODEL = "<|notimestamps|>", "<|startofprev|>", "<|startoflm|>"
NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")  # the newer name and the older one
TASKS = {"transcribe": "<|transcribe|>", "translate": "<|translate|>"}
ENGLISH_ONLY = 51_864  # tokens of the models that know English alone; others have more
LATEST_FIRST = 50  # the first time of a window is at most 1 s, where a folder says nothing
