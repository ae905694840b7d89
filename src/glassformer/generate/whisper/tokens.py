"""What Whisper's special tokens are for: language, task, times, and what came before (Radford et al. 2022, section 2.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from glassformer.errors import CheckpointError, ConfigError, nearest
from glassformer.generate.whisper.languages import CODES, NAMES
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.whisper import (
    END,
    ENGLISH_ONLY,
    LANGUAGE_MODEL,
    LATEST_FIRST,
    NO_SPEECH,
    NO_TIMES,
    PREVIOUS,
    START,
    TASKS,
)

LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
STEP = 0.02  # seconds from one time to the next


def is_whispers(tokenizer: Tokenizer) -> bool:
    """Whether these are the tokens of a Whisper."""
    return START in tokenizer.special_tokens and NO_TIMES in tokenizer.special_tokens


@dataclass(frozen=True)
class Tokens:
    """The ids that steer a Whisper. `first_time` is that of 0.00 s; `languages` maps codes to ids, none for English alone."""

    tokenizer: Tokenizer
    start: int
    end: int
    no_times: int
    previous: int | None
    no_speech: int | None
    tasks: Mapping[str, int]
    languages: Mapping[str, int]
    never: tuple[int, ...]
    never_first: tuple[int, ...]
    latest_first: int
    vocab_size: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, generation: Mapping[str, Any], vocab_size: int) -> Self:
        """Those of a model. Raises CheckpointError for a tokenizer that lacks what every Whisper has."""
        known = tokenizer.special_tokens
        lacking = [text for text in (START, END, NO_TIMES) if text not in known]
        if lacking:
            raise CheckpointError(f"this tokenizer has no {', '.join(lacking)}, without which no Whisper can be asked")
        many = generation.get("is_multilingual", vocab_size > ENGLISH_ONLY)
        languages = languages_of(known, generation.get("lang_to_id")) if many else {}
        never, first = (ids_of(generation, key) for key in ("suppress_tokens", "begin_suppress_tokens"))
        steering = [known[text] for text in (START, PREVIOUS, LANGUAGE_MODEL, *NO_SPEECH) if text in known]
        tasks = {task: known[text] for task, text in TASKS.items() if text in known}
        latest = generation.get("max_initial_timestamp_index")
        return cls(
            tokenizer,
            known[START],
            known[END],
            known[NO_TIMES],
            known.get(PREVIOUS),
            next((known[text] for text in NO_SPEECH if text in known), None),
            tasks if many else {},
            languages,
            tuple(sorted({*never, *steering, *tasks.values()})),
            first,
            latest if isinstance(latest, int) else LATEST_FIRST,
            vocab_size,
        )

    @property
    def first_time(self) -> int:
        return self.no_times + 1

    def beginning(self, language: str | None, task: str, *, times: bool) -> list[int]:
        """What a transcript begins after: start, language, task, and whether times are to be told."""
        ids = [self.start]
        if self.languages:
            ids += [self.languages[self.code(language or "en")], self.tasks[task]]
        return ids if times else [*ids, self.no_times]

    def code(self, language: str) -> str:
        """The code of a language that is given by code or English name. Raises ConfigError for one that is not known."""
        wanted = language.strip().lower()
        wanted = CODES.get(wanted, wanted)
        if not self.languages and wanted == "en":
            return "en"
        if not self.languages:
            raise ConfigError(f"language={language!r}: this model knows English alone")
        if wanted not in self.languages:
            known = [*self.languages, *(name for name, code in CODES.items() if code in self.languages)]
            raise ConfigError(f"language={language!r} is not known to this model{nearest(wanted, known)}")
        return wanted

    def language_for(self, language: str | None, task: str) -> str | None:
        """The code of a language, None where it is to be heard. Raises ConfigError for a task or a language that this model
        does not know."""
        self.check_task(task)
        if language is not None:
            return self.code(language)
        return None if self.languages else "en"

    def check_task(self, task: str) -> None:
        """Raise ConfigError for a task that there is not, or that this model cannot do."""
        if task not in TASKS:
            raise ConfigError(f"task={task!r} is not one of {', '.join(TASKS)}{nearest(task, TASKS)}")
        if task == "translate" and task not in self.tasks:
            raise ConfigError("task='translate': this model knows English alone, so there is nothing to translate from")

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids, their times and special tokens left out."""
        return self.tokenizer.decode([id for id in ids if id < self.end], skip_special=True)


def languages_of(special: Mapping[str, int], listed: object) -> dict[str, int]:
    """The ids of languages by their codes: those that a folder lists, and those that Whispers know; other special tokens may
    be as short."""
    said = listed if isinstance(listed, Mapping) else {}
    codes = {text: found[1] for text in special if (found := LANGUAGE.fullmatch(text))}
    return {code: special[text] for text, code in codes.items() if code in NAMES or text in said}


def ids_of(generation: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """The list of ids that a folder has under this key; -1, which stands for the usual ones, is none."""
    found = generation.get(key) or ()
    return tuple(id for id in found if isinstance(id, int) and id >= 0) if isinstance(found, list | tuple) else ()
