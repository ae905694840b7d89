"""The built-in text: English, deterministic, gathered without importing what it reads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from glassformer.data import corpora, python_documentation, read_documents
from glassformer.errors import DataError

MODULE = '''"""What this module is good for.

Details
=======

See :func:`~os.path.join` and ``sys.path``.

    >>> 1 + 1
    2

The end of the explanation."""
raise SystemExit("never imported")

class Thing:
    """A thing that is described here."""

    def method(self):
        """The method of a thing, also described."""
        def inner():
            """Not reached: nobody documents these."""

    def short(self):
        """Short."""
'''


def test_docstrings_are_gathered_from_top_to_bottom_without_importing(tmp_path: Path):
    for name in ("zeta.py", "alpha/beta.py", "alpha/tests/beta.py", "test/beta.py", "encodings/beta.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(MODULE)
    (tmp_path / "broken.py").write_text("def (")
    documents = list(corpora.docstrings_of_folder(tmp_path))
    assert [document.where for document in documents] == ["alpha/beta.py", "zeta.py"]
    assert documents[0].text.split("\n\n") == [
        "What this module is good for.",
        "Details",
        "See os.path.join and sys.path.",
        "The end of the explanation.",
        "A thing that is described here.",
        "The method of a thing, also described.",
        "Not reached: nobody documents these.",
    ]


def test_every_python_brings_megabytes_of_english():
    loaded = set(sys.modules)
    corpus = read_documents("demo:python-docs")
    assert 1_500_000 < corpus.n_bytes < 6_000_000
    assert "The following methods" in " ".join(document.text for document in corpus.documents)
    assert set(sys.modules) - loaded <= {"pydoc_data", "pydoc_data.topics"}


def test_a_python_without_sources_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpora.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match="comes without its sources and topics; name a text file of your own"):
        python_documentation()
