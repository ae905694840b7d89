"""The command line: verbs, flags, and what the shell is told. The only place where rooms are wired to flags."""

from __future__ import annotations

import os
import sys

from glassformer.errors import FAILED, USAGE, GlassformerError


def main() -> None:
    """Run the command of ``sys.argv`` and leave with its exit code; a user's mistake is one sentence, not a traceback."""
    from glassformer.cli.app import app

    sys.argv[1:] = [with_dashes(argument) for argument in sys.argv[1:]]
    try:
        app(standalone_mode=False)
    except GlassformerError as error:
        leave(str(error), error.exit_code)
    except KeyboardInterrupt:
        leave("stopped", 128 + 2)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does; that is no failure of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if not is_usage(error):
            raise
        leave(describe_usage(error), USAGE)


def with_dashes(argument: str) -> str:
    """``--max_steps=9`` as ``--max-steps=9``: flags may be written either way."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def is_usage(error: Exception) -> bool:
    """Whether an error is the command line parser's complaint about the flags."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def describe_usage(error: Exception) -> str:
    """The parser's complaint as a sentence, with where to find help."""
    text = str(error.format_message()).rstrip(".")  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "glassformer"
    return f"{text[:1].lower()}{text[1:]}; see `{path} --help`"


def leave(message: str, code: int = FAILED) -> None:
    """Print one sentence on the error stream and exit."""
    print(f"glassformer: {message}", file=sys.stderr)
    sys.exit(code)


__all__ = ["main"]
