"""Sound and sequences of vectors with what is said in them: from manifests, folders and archives to rows; their split."""

from __future__ import annotations

from glassformer.data.utterances.corpus import Kind, Utterance, UtteranceCorpus, Wanted
from glassformer.data.utterances.reading import read_utterances
from glassformer.data.utterances.splitting import UtteranceSplit, split_utterances
from glassformer.data.utterances.vectors import read_vectors

__all__ = [
    "Kind",
    "Utterance",
    "UtteranceCorpus",
    "UtteranceSplit",
    "Wanted",
    "read_utterances",
    "read_vectors",
    "split_utterances",
]
