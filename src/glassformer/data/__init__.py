"""Files become documents, pairs, labelled texts or utterances; these the two sides of a split; and those batches. No torch."""

from __future__ import annotations

from glassformer.data.batches import LengthBatches
from glassformer.data.check import Report, check_files
from glassformer.data.corpora import BUILT_IN, BUILT_IN_PAIRS, python_documentation
from glassformer.data.detect import Detected, Task, detect_task
from glassformer.data.documents import Corpus, Document
from glassformer.data.examples import Labelled, LabelledCorpus, Pair, PairCorpus, Skipped, Tagged, TaggedCorpus
from glassformer.data.findings import Finding
from glassformer.data.labelled import LabelledSplit, read_labelled, split_labelled
from glassformer.data.pairs import PairSplit, read_pairs, split_pairs
from glassformer.data.readers import READERS
from glassformer.data.reading import read_documents
from glassformer.data.splitting import Split, split
from glassformer.data.tables import TABLES
from glassformer.data.tagged import TaggedSplit, read_tagged, split_tagged
from glassformer.data.utterances import (
    Utterance,
    UtteranceCorpus,
    UtteranceSplit,
    read_utterances,
    read_vectors,
    split_utterances,
)
from glassformer.data.windows import IGNORED, TokenWindows, evaluation_windows

__all__ = [
    "BUILT_IN",
    "BUILT_IN_PAIRS",
    "IGNORED",
    "READERS",
    "TABLES",
    "Corpus",
    "Detected",
    "Document",
    "Finding",
    "Labelled",
    "LabelledCorpus",
    "LabelledSplit",
    "LengthBatches",
    "Pair",
    "PairCorpus",
    "PairSplit",
    "Report",
    "Skipped",
    "Split",
    "Tagged",
    "TaggedCorpus",
    "TaggedSplit",
    "Task",
    "TokenWindows",
    "Utterance",
    "UtteranceCorpus",
    "UtteranceSplit",
    "check_files",
    "detect_task",
    "evaluation_windows",
    "python_documentation",
    "read_documents",
    "read_labelled",
    "read_pairs",
    "read_tagged",
    "read_utterances",
    "read_vectors",
    "split",
    "split_labelled",
    "split_pairs",
    "split_tagged",
    "split_utterances",
]
