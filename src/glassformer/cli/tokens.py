"""``glassformer tokens``: a text taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option


def tokens(
    text: Annotated[str, Argument(help="The text to take apart.")],
    tokenizer: Annotated[
        Path | None,
        Option("--tokenizer", "-t", help="Run, model or tokenizer folder, or tokenizer.json. [default: plain bytes]"),
    ] = None,
    merges: Annotated[bool, Option("--merges", help="Show for each piece the merges that made it, in order.")] = False,
    special: Annotated[
        str, Option("--special", help="What special tokens in the text become: text, allow or refuse.")
    ] = "text",
) -> None:
    """Show the pieces of a text: id, piece, bytes, place, and how it was merged."""
    from glassformer.cli.tokenizer import open_tokenizer, special_choice
    from glassformer.tokenizers import ByteTokenizer

    known = open_tokenizer(tokenizer) if tokenizer else ByteTokenizer.train([], vocab_size=None)
    found = known.tokens(text, special=special_choice(special))
    width = max((len(known.label(token.id)) for token in found), default=0)
    for token in found:
        place = f"{token.start}:{token.end}"
        print(f"{token.id:>7}  {known.label(token.id):<{width}}  {place:<9} {token.piece.hex(' ')}")
        for merge in token.merges if merges else ():
            left, right = (part.decode("utf-8", "backslashreplace") for part in (merge.left, merge.right))
            print(f"         {left!r} + {right!r}  (merge {merge.rank})")
    print(f"{len(found)} tokens, {len(text.encode())} bytes")
