"""The files of a tokenizer: tokenizer.json in the Hugging Face schema and its tokenizer_config.json, read and written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from glassformer.errors import TokenizerError
from glassformer.files import whole_file

PAD, EOS, UNK = "<|pad|>", "<|endoftext|>", "<|unk|>"


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The control tokens by text, and which of them pad a batch, end a text, and stand for what is unknown."""

    ids: Mapping[str, int]
    pad: str | None = None
    eos: str | None = None
    unk: str | None = None

    @classmethod
    def after(cls, first_id: int, extra: Sequence[str] = (), *, unk: bool = False) -> SpecialTokens:
        """Padding, end of text, unknown where asked for, then the user's own, at `first_id` and up."""
        names = list(dict.fromkeys([PAD, EOS] + ([UNK] if unk else []) + list(extra)))
        for name in extra:
            if not name or not all("!" <= character <= "~" for character in name):
                raise TokenizerError(
                    f"special token {name!r}: expected printable ASCII without spaces, as in '<|user|>'"
                )
        return cls({name: first_id + i for i, name in enumerate(names)}, PAD, EOS, UNK if unk else None)


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """A tokenizer.json that has the parts of the schema, with its place for messages."""

    path: Path
    model: Mapping[str, Any]
    pre_tokenizer: Mapping[str, Any]
    vocab: Mapping[str, int]  # ordinary tokens only
    special: SpecialTokens

    def wrong(self, reason: str) -> TokenizerError:
        return TokenizerError(f"{self.path}: {reason}")


# The byte-level alphabet of GPT-2: printable bytes are their Latin-1 character, the others follow from U+0100. JSON cannot
# hold raw bytes, so vocabularies are written in it. Its order is also the order of GPT-2's first 256 ids.
PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTE_ORDER = PRINTABLE + [byte for byte in range(256) if byte not in PRINTABLE]
CHARACTER_OF_BYTE = {
    byte: chr(byte if i < len(PRINTABLE) else 256 + i - len(PRINTABLE)) for i, byte in enumerate(BYTE_ORDER)
}
BYTE_OF_CHARACTER = {ord(character): byte for byte, character in CHARACTER_OF_BYTE.items()}


def spell(piece: bytes) -> str:
    """Bytes in GPT-2's printable alphabet: ``b" the"`` is ``"Ġthe"``."""
    return piece.decode("latin-1").translate(CHARACTER_OF_BYTE)


def unspell(text: str) -> bytes:
    """The bytes that `spell` wrote. Raises ValueError for a character outside of the alphabet."""
    return text.translate(BYTE_OF_CHARACTER).encode("latin-1")


def byte_level(*, use_regex: bool) -> dict[str, Any]:
    """The schema's part that spells bytes in the printable alphabet, cutting by GPT-2's pattern before if asked to."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": use_regex}


def split(pattern: str) -> dict[str, Any]:
    """The schema's part that cuts text into the matches of a pattern."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def document(parts: Mapping[str, Any], special: SpecialTokens) -> dict[str, Any]:
    """A whole tokenizer.json around a tokenizer's model, pre_tokenizer and decoder."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": id, "content": text, **flags} for text, id in sorted(special.ids.items(), key=lambda item: item[1])]
    empty = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None}
    return {**empty, "post_processor": None, **parts}


def write(folder: Path, parts: Mapping[str, Any], special: SpecialTokens) -> None:
    """Write both files into `folder`, which is made if need be. Raises DiskError; then neither file has changed."""
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    roles = {"pad_token": special.pad, "eos_token": special.eos, "unk_token": special.unk}
    config |= {role: text for role, text in roles.items() if text is not None}
    extra = [text for text in special.ids if text not in roles.values()]
    if extra:
        config["extra_special_tokens"] = extra
    with whole_file(folder / "tokenizer_config.json") as config_file, whole_file(folder / "tokenizer.json") as file:
        config_file.write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")
        file.write_text(json.dumps(document(parts, special), ensure_ascii=False, indent=1), encoding="utf-8")


def read(path: Path) -> TokenizerFile:
    """Read tokenizer.json (or the folder that holds it). Raises TokenizerError with the file and what is wrong in it."""
    file = path / "tokenizer.json" if path.is_dir() else path
    content = read_json(file)
    model, pre_tokenizer = content.get("model"), content.get("pre_tokenizer")
    if not isinstance(model, dict) or not isinstance(pre_tokenizer, dict):
        raise TokenizerError(f"{file}: expected the parts 'model' and 'pre_tokenizer' of a Hugging Face tokenizer")
    model = cast("dict[str, Any]", model)
    if content.get("normalizer") is not None:
        raise TokenizerError(f"{file}: it changes text before reading it (a 'normalizer'), which no kind here does")
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not all(isinstance(id, int) for id in cast("dict[str, Any]", vocab).values()):
        raise TokenizerError(f"{file}: model.vocab is not a mapping of tokens to ids")
    vocab = cast("dict[str, int]", vocab)
    ids = dict(added_tokens(content, file))
    clash = next((text for text, id in ids.items() if vocab.get(text, id) != id), None)
    if clash is not None:
        raise TokenizerError(f"{file}: special token {clash!r} has id {ids[clash]} and, in model.vocab, {vocab[clash]}")
    config_path = file.with_name("tokenizer_config.json")
    config = read_json(config_path) if config_path.exists() else {}
    special = SpecialTokens(
        ids,
        pad=role(ids, config.get("pad_token"), PAD, other_than=role(ids, config.get("eos_token"), EOS)),
        eos=role(ids, config.get("eos_token"), EOS),
        unk=role(ids, model.get("unk_token")),
    )
    ordinary = {text: id for text, id in vocab.items() if text not in ids}
    return TokenizerFile(file, model, cast("dict[str, Any]", pre_tokenizer), ordinary, special)


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises TokenizerError with file, line and reason."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TokenizerError(
            f"{path}: there is no such file; a tokenizer is a tokenizer.json or a folder with one"
        ) from None
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise TokenizerError(f"{path}: is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise TokenizerError(f"{path}:{error.lineno}: is not valid JSON ({error.msg}); the file is damaged") from None
    except RecursionError:
        raise TokenizerError(f"{path}: is nested too deeply to be a tokenizer") from None
    if not isinstance(content, dict):
        raise TokenizerError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return cast("dict[str, Any]", content)


def added_tokens(content: Mapping[str, Any], file: Path) -> Iterator[tuple[str, int]]:
    """The special tokens of the file. Others, which match inside of ordinary text, are refused rather than ignored."""
    try:
        for token in cast("list[dict[str, Any]]", content.get("added_tokens") or []):
            if not token["special"] or token.get("lstrip") or token.get("rstrip") or token.get("single_word"):
                raise TokenizerError(
                    f"{file}: added token {token['content']!r} is not a plain special token (special, no strip, "
                    "no single_word), and no kind here cuts text at any other"
                )
            yield str(token["content"]), int(token["id"])
    except (TypeError, KeyError, ValueError, AttributeError):
        raise TokenizerError(f"{file}: added_tokens is not a list of tokens with content, id and special") from None


def role(ids: Mapping[str, int], named: Any, usual: str | None = None, other_than: str | None = None) -> str | None:
    """The special token that the files name for a role (a string, or an object with its content), or the usual one."""
    text = cast("dict[str, Any]", named).get("content") if isinstance(named, dict) else named
    candidates = [text, usual] if text is not None else [usual]
    return next((name for name in candidates if name in ids and name != other_than), None)
