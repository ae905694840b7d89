"""Text that is on every machine which runs Python, so that a first training needs neither a file nor a download."""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from glassformer.data.documents import Corpus, Document, counted, readable_size
from glassformer.data.examples import PairCorpus
from glassformer.data.number_words import numbers_and_dates
from glassformer.errors import DataError

PASSED_OVER = re.compile(  # tests; folders that only some Pythons have; tables and programs with little English in them
    r"^(test|tests|idle_test|site-packages|dist-packages|__pycache__|lib2to3|distutils|ensurepip|idlelib|turtledemo"
    r"|encodings|pydoc_data|config-.*|_sysconfigdata.*|__phello__.*)$"
)
SHORTEST_DOCSTRING = 20  # characters; shorter ones are labels ("Return self.") rather than sentences
MARKUP: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^[ \t]*>>> .*(?:\n(?![ \t]*$).*)*", re.MULTILINE), ""),  # sessions, up to the blank line
    (re.compile(r"^[ \t]*([*=\-~^#+_.])\1{2,}[ \t]*$\n?", re.MULTILINE), ""),  # underlines of headings
    (re.compile(r":[a-z:]+:`~?\.?([^`<]+)(?:<[^`]*>)?`"), r"\1"),  # roles of reStructuredText
    (re.compile(r"``([^`\n]+)``"), r"\1"),
    (re.compile(r"^[ \t]*(?:@\(#\)|\$Id|\.\. ).*\n?", re.MULTILINE), ""),  # version marks, directives
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
    (re.compile(r"\n{3,}"), "\n\n"),
)


def python_documentation() -> Corpus:
    """The English of the running Python: the language reference that `help()` shows, and the library's docstrings.

    About 2 MB, the same on every machine with the same Python. Sources are parsed, never imported. Raises DataError
    where Python comes without them.
    """
    library = Path(sysconfig.get_path("stdlib"))
    documents = (*reference_topics(), *docstrings_of_folder(library))
    corpus = Corpus(documents)
    if not documents:
        raise DataError(f"{library}: this Python comes without its sources and topics; name a text file of your own")
    found = f"{counted(len(documents), 'document')}, {readable_size(corpus.n_bytes)}"
    return Corpus(documents, (f"the topics and docstrings of this Python, {found}",))


def reference_topics() -> Iterator[Document]:
    """The chapters that `help("topics")` lists."""
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out
        return
    for name, text in sorted(topics.items()):
        yield Document(without_markup(text), f"pydoc_data/topics.py:{name}")


def docstrings_of_folder(folder: Path) -> Iterator[Document]:
    """One document for each Python file, in the order of their paths: its docstrings from top to bottom."""
    for path in sorted(folder.rglob("*.py")):
        place = path.relative_to(folder)
        if not any(PASSED_OVER.match(name) for name in (*place.parts[:-1], place.stem)):
            text = docstrings(path)
            if text:
                yield Document(text, place.as_posix())


def docstrings(path: Path) -> str:
    """The docstrings of a module, its classes and functions, as paragraphs; "" where it cannot be parsed."""
    try:
        source = path.read_text(encoding="utf-8")
        with warnings.catch_warnings(action="ignore"):  # of invalid escapes, which are not ours to mend
            module = ast.parse(source)
    except (OSError, ValueError, SyntaxError):
        return ""
    found = (without_markup(ast.get_docstring(node) or "") for node in documented_nodes(module))
    return "\n\n".join(text for text in found if len(text) >= SHORTEST_DOCSTRING)


def documented_nodes(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """`node` and what is defined in it, in the order of the source; `ast.walk` would visit every expression."""
    yield node
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from documented_nodes(child)


def without_markup(text: str) -> str:
    """Plain English: no interactive sessions, no underlined headings, no reStructuredText roles."""
    for pattern, plain in MARKUP:
        text = pattern.sub(plain, text)
    return text.strip()


BUILT_IN: dict[str, Callable[[], Corpus]] = {"python-docs": python_documentation}
BUILT_IN_PAIRS: dict[str, Callable[[], PairCorpus]] = {"translate": numbers_and_dates}
