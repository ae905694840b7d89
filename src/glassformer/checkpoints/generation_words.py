"""The settings of generation_config.json in our words and back, where the two call the same thing by different names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.tokenizers.roles import Writing

IDS = ("bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id")

# What translators say of their searches; folders without a generation_config.json keep it in config.json.
OF_TRANSLATORS = (
    "bad_words_ids",
    "early_stopping",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beams",
    "renormalize_logits",
    "suppress_tokens",
)
# What Whisper says there of its decoding.
OF_WHISPER = ("suppress_tokens", "begin_suppress_tokens", "forced_decoder_ids", "max_length")
ENDINGS = {"first": True, "likely": False, "settled": False, "exact": "never"}  # of a search: our word to theirs
LENGTHS = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}


def in_our_words(found: Mapping[str, Any], config: Mapping[str, Any], *, translates: bool) -> dict[str, Any]:
    """What generation_config.json says, with the ids of config.json where it says none. `found` is empty without a file.

    A length of theirs counts the token that a target begins after, one of ours does not.
    """
    keys = IDS if found or not translates else (*IDS, *OF_TRANSLATORS)
    values = {key: config[key] for key in keys if key in config}
    values |= {key: value for key, value in found.items() if value is not None}
    if values.get("do_sample") is False:
        values["temperature"] = 0.0  # how those who say so mean "always the likeliest"
    if values.get("top_k") == 0:
        del values["top_k"]  # their way to say "all"
    if translates and "num_beams" in values:
        values.setdefault("early_stopping", False)  # what it means there to say nothing
    if "early_stopping" in values:
        ours = {theirs: word for word, theirs in ENDINGS.items()}
        said = values.pop("early_stopping")
        values["early_stopping"] = ours.get(said, said) if isinstance(said, bool | str) else said
    if not translates:
        return values
    for theirs, word in LENGTHS.items():
        said = values.pop(theirs, None)
        if isinstance(said, int) and said > 0 and values.get(word) is None:
            values[word] = said - 1
    return values


def of_whisper(found: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a Whisper, in its own words here and there: its lengths count the prompt, which changes with each window.

    Older folders keep some of them in config.json.
    """
    values = {key: config[key] for key in (*IDS, *OF_WHISPER) if key in config} | dict(found)
    return {key: value for key, value in values.items() if value is not None}


def in_their_words(generation: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings as other tools read them."""
    said = generation.get("early_stopping")
    return {**generation, "early_stopping": ENDINGS[said]} if said in ENDINGS else dict(generation)


def writing_of(generation: Mapping[str, Any]) -> Writing:
    """How the family of these settings writes targets. Padding is never written, whether they say so or not."""
    bad = [words[0] for words in phrases(generation) if len(words) == 1]
    never = [generation.get("pad_token_id"), *several(generation.get("suppress_tokens")), *bad]
    ends = several(generation.get("eos_token_id"))
    start = one_id(generation.get("decoder_start_token_id"))
    return Writing(
        start=one_id(generation.get("bos_token_id")) if start is None else start,
        first=one_id(generation.get("forced_bos_token_id")),
        last=one_id(generation.get("forced_eos_token_id")),
        never=tuple(sorted({id for id in never if isinstance(id, int) and id >= 0 and id not in ends})),
        renormalises=generation.get("renormalize_logits") is True,
    )


def one_id(value: Any) -> int | None:
    """A token id, given as it is or as the first of a list."""
    return next((id for id in several(value) if isinstance(id, int) and not isinstance(id, bool)), None)


def several(value: Any) -> list[Any]:
    """A value that may be one or a list of them."""
    return value if isinstance(value, list) else [value]


def phrases(generation: Mapping[str, Any]) -> list[list[Any]]:
    """The tokens, one after the other, that must not be written."""
    return [words for words in several(generation.get("bad_words_ids")) if isinstance(words, list)]


def unkept(generation: Mapping[str, Any]) -> list[str]:
    """Sentences about the settings that searches here do not follow."""
    longer = [words for words in phrases(generation) if len(words) > 1]
    return (
        [f"bad_words_ids forbids {len(longer)} phrases of several tokens, which may be written here"] if longer else []
    )
