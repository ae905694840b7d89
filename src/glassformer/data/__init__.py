"""Files become documents, documents the two sides of a split, their tokens windows to train on. No torch."""

from __future__ import annotations

from glassformer.data.corpora import BUILT_IN, python_documentation
from glassformer.data.documents import Corpus, Document
from glassformer.data.readers import READERS
from glassformer.data.sources import read_documents
from glassformer.data.splitting import Split, split
from glassformer.data.windows import IGNORED, TokenWindows, evaluation_windows

__all__ = [
    "BUILT_IN",
    "IGNORED",
    "READERS",
    "Corpus",
    "Document",
    "Split",
    "TokenWindows",
    "evaluation_windows",
    "python_documentation",
    "read_documents",
    "split",
]
