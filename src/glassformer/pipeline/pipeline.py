"""The one object that holds a whole way, from text to text: network, tokenizers and generation defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from glassformer.checkpoints import save_model
from glassformer.checkpoints.families.sentence_transformers import HABITS
from glassformer.config import set_dotted
from glassformer.errors import ConfigError, nearest
from glassformer.features import FeatureConfig
from glassformer.generate import (
    Beam,
    Filled,
    Generation,
    Labelling,
    Sampling,
    Segment,
    Tagging,
    TextCompletion,
    Transcription,
    Translation,
    classify,
    embed,
    fill,
    generate_text,
    stream_text,
    tag,
    translate,
)
from glassformer.generate.classify import rows_to_label, rows_to_tag
from glassformer.generate.embed import rows_to_embed
from glassformer.generate.fill import rows_to_fill
from glassformer.generate.purpose import refuse_unfit, task_of
from glassformer.generate.text import prompt_ids
from glassformer.generate.transcribe import method_of, timing_of
from glassformer.generate.translate import source_ids
from glassformer.lens import Description, Drawing, Explanation, describe, explain
from glassformer.lens.glass import Keep, Trace, trace_generation, trace_text
from glassformer.lens.glass.sizes import BUDGET_MB
from glassformer.models import Decoder, Model
from glassformer.pipeline.chat import Chat, Conversation
from glassformer.pipeline.evaluation import Evaluation, evaluate, read_examples
from glassformer.pipeline.listening import is_whisper, listen, whisper_segments
from glassformer.pipeline.transcribe import Hearing, Spoken, classify_each, segments_of, transcribe_each
from glassformer.tokenizers import Token, Tokenizer
from glassformer.tokenizers.chat import ChatTemplate, Messages

if TYPE_CHECKING:
    from glassformer.lens.prove import Certificate


@dataclass(frozen=True)
class Pipeline:
    """A model that can be asked: to generate, translate, transcribe, classify, embed or fill, whichever it was made for.

    `generation`: the defaults of the model folder, in the words of generation_config.json. `source_tokenizer`: that of an
    encoder-decoder whose sources have a vocabulary of their own. `features`: how sound becomes the vectors that it reads.
    """

    model: Model
    tokenizer: Tokenizer
    generation: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source_tokenizer: Tokenizer | None = None
    chat_template: str | None = None
    features: FeatureConfig | None = None

    @property
    def task(self) -> str:
        """What the model was made for: a row of `generate.purpose.PURPOSES`, such as "text", "translate" or "transcribe"."""
        return task_of(self.model, self.tokenizer)

    @overload
    def generate(self, prompt: str = "", *, trace: Literal[False] = False, **settings: Any) -> str: ...

    @overload
    def generate(self, prompt: str = "", *, trace: Literal[True], **settings: Any) -> tuple[str, Trace]: ...

    def generate(self, prompt: str = "", *, trace: bool = False, **settings: Any) -> str | tuple[str, Trace]:
        """What the model writes after `prompt`. Settings: those of `Generation`, and of `Sampling`, by name.

        With `trace` also the run over prompt and text, with every draw, or the tree of the search. Raises ConfigError then
        for a text that outgrows the context.
        """
        if not trace:
            return self.generate_many([prompt], **settings)[0].text
        completion, seen = trace_generation(self.decoder, self.tokenizer, prompt, self.settings(settings))
        return completion.text, seen

    def trace(
        self,
        text: str,
        target: str | None = None,
        *,
        points: str | Sequence[str] = "*",
        budget_mb: float = BUDGET_MB,
        **settings: Any,
    ) -> Trace:
        """Everything that the model computes when it reads `text`, and with it `target`, by default its own translation.

        `points` are names or globs of the tensors to keep, of all of them as many as fit into the budget; the others are
        computed again when they are asked for. Settings: those of `Beam`, for a model that translates.
        """
        if settings and (self.task != "translate" or target is not None):
            raise ConfigError(
                f"{next(iter(settings))}: searching is for models that translate, where no target is given"
            )
        return trace_text(
            self.model,
            self.tokenizer,
            text,
            target=target,
            source_tokenizer=self.source_tokenizer,
            beam=self.beam(settings) if self.task == "translate" else None,
            keep=Keep(points if isinstance(points, str) else tuple(points), budget_mb),
            habits=self.generation.get(HABITS),
            features=self.features,
        )

    def prove(self, **settings: Any) -> Certificate:
        """That the ways to run this model agree, each proved on it; settings: those of `glassformer.lens.prove.prove`."""
        from glassformer.lens.prove import prove  # it brings processes and compilers, which nothing else here needs

        return prove(self.model, self.tokenizer, source_tokenizer=self.source_tokenizer, **settings)

    def generate_many(self, prompts: Iterable[str], **settings: Any) -> list[TextCompletion]:
        """Completions of many prompts at once, `num_samples` of each, every one as it would be alone."""
        return generate_text(self.decoder, self.tokenizer, list(prompts), generation=self.settings(settings))

    def stream(
        self, prompt: str = "", *, on_note: Callable[[str], None] | None = None, **settings: Any
    ) -> Iterator[str]:
        """The same text in pieces, as it becomes certain. `on_note` is told when the context is full."""
        generation = self.settings(settings)
        return stream_text(self.decoder, self.tokenizer, prompt, generation=generation, on_note=on_note)

    def chat(self, messages: Messages, **settings: Any) -> str:
        """The answer to the last message. Settings: those of `Generation` and `Sampling` by name."""
        return "".join(self.stream_chat(messages, **settings))

    def stream_chat(
        self, messages: Messages, *, on_note: Callable[[str], None] | None = None, **settings: Any
    ) -> Iterator[str]:
        """The same answer in pieces, as it becomes certain. `on_note` is told when the oldest messages are cut."""
        return Chat(self).stream(messages, on_note=on_note, **settings)

    def converse(
        self, *, system: str | None = None, template: ChatTemplate | None = None, **settings: Any
    ) -> Conversation:
        """A conversation that remembers what was said, and what of it the model has read."""
        return Conversation(Chat(self, template), system, **settings)

    def translate(self, text: str, **settings: Any) -> str:
        """The best translation of `text`. Settings: those of `Beam` by name, and `prefix`, with which it begins."""
        return self.translate_many([text], **settings)[0].text

    def translate_many(
        self, texts: Iterable[str], *, prefix: str = "", record: bool = False, **settings: Any
    ) -> list[Translation]:
        """Translations of many texts at once, every one as it would be alone. `record` keeps the tree of each search.

        With a setting of `Sampling` (temperature, top_p...) they are drawn by `seed` instead of searched for.
        """
        refuse_unfit(self.model, self.tokenizer, "translate")
        drawn = {name: settings.pop(name) for name in SAMPLING if name in settings}
        return translate(
            self.model,
            self.reader,
            self.tokenizer,
            list(texts),
            sampling=Sampling.parse(drawn, "sampling") if drawn else None,
            seed=settings.pop("seed", 0),
            beam=self.beam(settings),
            prefix=prefix,
            record=record,
        )

    def transcribe(self, source: Spoken, **settings: Any) -> Transcription:
        """What is said in a file of sound, in samples (N, in [-1, 1]), or in vectors (.npy, .npz, T F), however long it is.

        Settings: method ("attention", "ctc", "joint"), ctc_weight, words (with the times of each), window (seconds that are
        read at once), rate (of samples, where it is not the model's), and those of `Beam`, by name; of a Whisper words, rate
        and those of `generate.whisper.WhisperSettings`.
        """
        return self.transcribe_many([source], **settings)[0]

    def transcribe_many(self, sources: Iterable[Spoken], **settings: Any) -> list[Transcription]:
        """The same of many sources, short ones read together, every one as it would be alone."""
        if is_whisper(self):
            return [listen(self, source, settings) for source in sources]
        return list(transcribe_each(self, sources, self.hearing(settings)))

    def stream_transcription(self, source: Spoken, **settings: Any) -> Iterator[Segment]:
        """The segments of a long source as they become certain."""
        if is_whisper(self):
            return whisper_segments(self, source, settings)
        return segments_of(self, source, self.hearing(settings))

    def classify_sounds(self, sources: Iterable[Spoken], rate: int | None = None) -> list[Labelling]:
        """The labels of files of sound, of samples (at `rate`, where it is not the model's), or of vectors."""
        return classify_each(self, list(sources), rate)

    def classify(self, text: str) -> Labelling | Tagging:
        """The labels of a text, or, by a model that tags, the tag of each of its words, which spaces divide; by a model of
        sound the labels of the file of that name."""
        return self.classify_many([text])[0]

    def classify_many(self, texts: Iterable[str]) -> Sequence[Labelling | Tagging]:
        """The labels of many texts, or the tags of their words, every text as it would be alone."""
        refuse_unfit(self.model, self.tokenizer, "classify", "tag", "classify_vectors")
        if self.task == "classify_vectors":
            return self.classify_sounds(texts)
        if self.task == "tag":
            return tag(self.model, self.tokenizer, [text.split() for text in texts])
        return classify(self.model, self.tokenizer, list(texts))

    def embed(self, texts: Iterable[str], *, on_note: Callable[[str], None] | None = None) -> NDArray[np.float32]:
        """A vector of length 1 for each text, [N, D], whose products are cosines. `on_note` is told of a text that was cut."""
        return embed(self.model, self.tokenizer, list(texts), self.generation.get(HABITS), on_note=on_note)

    def fill(self, text: str, top: int = 5) -> Filled:
        """The `top` likeliest tokens for each ``<|mask|>`` in a text."""
        return self.fill_many([text], top)[0]

    def fill_many(self, texts: Iterable[str], top: int = 5) -> list[Filled]:
        """The same for many texts, every one as it would be alone."""
        return fill(self.model, self.tokenizer, list(texts), top)

    def evaluate(
        self,
        sources: str | Path | Sequence[str | Path],
        *,
        keys: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Evaluation:
        """The scores on files of examples. `keys`: which columns hold what (text_key, source_key, target_key, label_key,
        separator, and of sound path_key, name_pattern, replace) and the encoding. Settings: those of `Beam`, for a model that
        translates, and those of `transcribe`."""
        return evaluate(self, read_examples(self.task, sources, **(keys or {})), self.searching(settings))

    def explain(
        self,
        text: str,
        *,
        target: str | None = None,
        sampling: Sampling | None = None,
        seed: int = 0,
        step: int = 0,
        **where: Any,
    ) -> Explanation:
        """The arithmetic of one run, number by number. `where`: layer, head, position, channel, side, at, depth, digits; see
        `glassformer.lens.explain`.

        `target`: what a model that translates is to have written; by default what it does write. `sampling`, `seed` and
        `step` (how many tokens were drawn before) choose the draw at the end of the walk through a model that goes on from
        a text: it is the one that `generate` makes with the same settings.
        """
        trace = self.trace(text, target)
        if self.task == "text":
            ids = prompt_ids(self.tokenizer, text)
            earlier = ids[: len(ids) - len(trace.tokens["decoder"])]
            where["drawing"] = Drawing(sampling or Sampling(), seed, step, earlier)
        if self.model.config.head == "tokens":
            where["n_tokens"] = min(self.model.config.vocab_size, self.tokenizer.vocab_size)
        return explain(trace, **where)

    def tokens(self, text: str) -> list[Token]:
        """The pieces of a text with their bytes, ids and merges."""
        return self.tokenizer.tokens(text)

    def describe(self) -> Description:
        """Shapes, parameters and memory."""
        return describe(self.model, self.tokenizer, source_tokenizer=self.source_tokenizer, features=self.features)

    def save(self, folder: str | Path) -> None:
        """Write a model folder in the Hugging Face layout."""
        save_model(
            Path(folder),
            self.model,
            self.tokenizer,
            source_tokenizer=self.source_tokenizer,
            generation=self.generation,
            chat_template=self.chat_template,
            features=self.features,
        )

    @property
    def reader(self) -> Tokenizer:
        """The tokenizer of what is read."""
        return self.source_tokenizer or self.tokenizer

    @property
    def decoder(self) -> Decoder:
        """The model, where it goes on from a text. Raises ConfigError for one that does not."""
        if not isinstance(self.model, Decoder):
            refuse_unfit(self.model, self.tokenizer, "text")
        assert isinstance(self.model, Decoder)
        return self.model

    def check(self, verb: str, text: str | None = None) -> None:
        """Raise ConfigError where the model was not made to `verb` ("translate", "classify", "embed", "fill"), or cannot do
        it to this text."""
        tasks = ("classify", "tag", "classify_vectors") if verb == "classify" else (verb,)
        refuse_unfit(self.model, self.tokenizer, *tasks)
        if text is None:
            return
        match self.task:
            case "translate":
                source_ids(self.model, self.reader, text)
            case "classify":
                rows_to_label(self.model, self.tokenizer, [text])
            case "tag":
                rows_to_tag(self.model, self.tokenizer, [text.split()])
            case "embed":
                rows_to_embed(self.model, self.tokenizer, [text], self.generation.get(HABITS))
            case "fill":
                rows_to_fill(self.model, self.tokenizer, [text])

    def settings(self, asked: Mapping[str, Any]) -> Generation:
        """The folder's defaults overridden by what is asked for. Raises ConfigError for an unknown or impossible setting."""
        values: dict[str, Any] = {}
        defaults = {name: self.generation[name] for name in SAMPLING if name in self.generation}
        for name, value in {**defaults, **asked}.items():
            set_dotted(values, f"sampling.{name}" if name in SAMPLING else name, value)
        return Generation.parse(values, "generation")

    def beam(self, asked: Mapping[str, Any]) -> Beam:
        """The same for a search. Raises ConfigError for an unknown or impossible setting."""
        defaults = {name: self.generation[name] for name in SEARCHING if name in self.generation}
        most = asked.get("max_new_tokens")
        if most is not None and most < defaults.get("min_new_tokens", 0):  # who asks for less than usual means it
            del defaults["min_new_tokens"]
        return Beam.parse({**defaults, **asked}, "beam search")

    def searching(self, asked: Mapping[str, Any]) -> Beam | Mapping[str, Any]:
        """What `evaluate` wants to know of a search: of a model that transcribes the settings as they are."""
        return asked if self.task == "transcribe" else self.beam(asked)

    def hearing(self, asked: Mapping[str, Any]) -> Hearing:
        """The same for transcribing, where a text may be as long as the model writes. Raises ConfigError, before any sound is
        read, for what the model has not or the method makes no use of."""
        own = {name: asked[name] for name in HEARING if name in asked}
        rest = {name: value for name, value in asked.items() if name not in own}
        unknown = next((name for name in rest if name not in Beam.model_fields), None)
        if unknown is not None:
            known = (*HEARING, *Beam.model_fields)
            raise ConfigError(f"transcribing has no setting {unknown!r}{nearest(unknown, known)}")
        way = method_of(self.model, self.tokenizer, own.get("method"), own.get("ctc_weight"))
        timing_of(self.model, own.get("words", False))
        idle = next((name for name in rest if way == "ctc" and name not in OF_CTC), None)
        if idle is not None:
            raise ConfigError(
                f"{idle}={rest[idle]} is for what a decoder writes, and method='ctc' reads its text off the frames:"
                f" of a search it takes {' and '.join(OF_CTC)}"
            )
        if "max_new_tokens" not in self.generation:
            rest.setdefault("max_new_tokens", self.model.config.max_len)
        return Hearing(self.beam(rest), **own)


SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
HEARING = ("method", "ctc_weight", "words", "window", "rate")  # beside those of `Beam`
OF_CTC = ("num_beams", "n_best")  # what CTC takes of `Beam`
SEARCHING = (
    "num_beams",
    "length_penalty",
    "early_stopping",
    "no_repeat_ngram_size",
    "min_new_tokens",
    "max_new_tokens",
)
