"""``glassformer tokenizer``: train one on files, and use it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option, Typer

from glassformer.cli.standard_input import read_standard_input

if TYPE_CHECKING:
    from glassformer.tokenizers import Tokenizer

app = Typer(help="Train a tokenizer on files, encode, decode, inspect.", rich_markup_mode=None)


@app.command("train")
def train(
    sources: Annotated[list[str], Argument(help="Files, folders, globs, or - for standard input.")],
    out_dir: Annotated[Path, Option("--out-dir", "-o", help="Where tokenizer.json goes.")] = Path("tokenizer"),
    kind: Annotated[str, Option("--kind", help="characters, words, bytes or bpe.")] = "bpe",
    vocab_size: Annotated[
        int | None, Option("--vocab-size", help="Size of the vocabulary. [default: by the text]")
    ] = None,
    pattern: Annotated[
        str, Option("--pattern", help="How text is cut before merging: gpt2, gpt4, llama3, qwen2, gpt4o or smollm.")
    ] = "gpt2",
    special_tokens: Annotated[
        list[str] | None, Option("--special-token", help="A further special token; may be repeated.")
    ] = None,
    text_key: Annotated[str, Option("--text-key", help="Column or key that holds the text.")] = "text",
    encoding: Annotated[str | None, Option("--encoding", help="Encoding of the files, where it is not UTF-8.")] = None,
) -> None:
    """Train a tokenizer and save it as tokenizer.json."""
    from glassformer.data import read_documents
    from glassformer.tokenizers import train_tokenizer

    corpus = read_documents(sources, text_key=text_key, encoding=encoding)
    for note in corpus.notes:
        print(note, file=sys.stderr)
    texts = [document.text for document in corpus.documents]
    made = train_tokenizer(
        kind,
        texts,
        vocab_size=vocab_size,
        pattern=pattern,  # type: ignore[arg-type]  # any other name is refused there
        special_tokens=special_tokens or (),
    )
    made.save(out_dir)
    n_tokens = sum(len(made.encode_array(text)) for text in texts)
    print(
        f"{out_dir}: {made.vocab_size:,} tokens; {corpus.n_bytes / max(n_tokens, 1):.2f} bytes per token on this text"
    )


@app.command("encode")
def encode(
    tokenizer: Annotated[Path, Argument(help="Run, model or tokenizer folder, or tokenizer.json.")],
    text: Annotated[str, Argument(help="Text; - reads standard input.")] = "-",
    special: Annotated[
        str, Option("--special", help="What special tokens in the text become: text, allow or refuse.")
    ] = "text",
) -> None:
    """Print the ids of a text, separated by spaces."""
    wanted = read_standard_input() if text == "-" else text
    print(*open_tokenizer(tokenizer).encode(wanted, special=special_choice(special)))


@app.command("decode")
def decode(
    tokenizer: Annotated[Path, Argument(help="Run, model or tokenizer folder, or tokenizer.json.")],
    ids: Annotated[list[str] | None, Argument(help="Ids; none reads standard input.")] = None,
) -> None:
    """Print the text of some ids."""
    from glassformer.errors import ConfigError

    words = ids or read_standard_input().split()
    numbers: list[int] = []
    for word in words:
        if not word.isdecimal():
            raise ConfigError(f"{word!r} is no token id; expected whole numbers separated by spaces")
        numbers.append(int(word))
    print(open_tokenizer(tokenizer).decode(numbers))


@app.command("inspect")
def inspect(
    tokenizer: Annotated[Path, Argument(help="Run, model or tokenizer folder, or tokenizer.json.")],
    first: Annotated[int, Option("--first", help="First id to list.")] = 0,
    count: Annotated[int, Option("--count", help="How many ids to list.")] = 20,
) -> None:
    """Print what a tokenizer is, and some of its vocabulary."""
    known = open_tokenizer(tokenizer)
    print(f"{known.kind}, {known.vocab_size:,} tokens")
    for text, number in known.special_tokens.items():
        print(f"{number:>7}  {text}  special")
    for number in range(first, min(first + count, known.vocab_size)):
        print(f"{number:>7}  {known.label(number)}")


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a run folder, a model folder, a tokenizer folder or a file."""
    from glassformer.tokenizers import folders, load_tokenizer

    place = path / "tokenizer" if (path / "tokenizer").is_dir() else path
    found = folders.open_tokenizer(place) if place.is_dir() else None
    return load_tokenizer(place) if found is None else found


def special_choice(name: str) -> Literal["refuse", "text", "allow"]:
    """The checked value of --special. Raises ConfigError."""
    from glassformer.errors import ConfigError

    if name not in ("refuse", "text", "allow"):
        raise ConfigError(f"--special {name}: expected text, allow or refuse")
    return name
