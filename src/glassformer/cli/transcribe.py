"""``glassformer transcribe``: files of sound in, what was said in them out, as text or subtitles."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from glassformer.cli.captions import ALL, FORMATS
from glassformer.cli.flags import Device, LengthPenalty, NumBeams, Run, Threads, given, opened, tell
from glassformer.cli.sounds import Progress, label_of, length_of, source_of, sources_of, stems_of

if TYPE_CHECKING:
    from glassformer.generate.transcription import Transcription
    from glassformer.pipeline import Pipeline


def transcribe(
    run: Run,
    files: Annotated[
        list[str] | None,
        Argument(help="Files of sound (WAV; FLAC and others by soundfile), folders of them, or - for standard input."),
    ] = None,
    microphone: Annotated[bool, Option("--microphone", help="Listen to the microphone instead.")] = False,
    seconds: Annotated[float | None, Option("--seconds", min=0.1, help="For how long. [default: until Ctrl-C]")] = None,
    output_format: Annotated[
        str, Option("--output-format", "-f", help="txt, json, srt, vtt, tsv, or all (with --output-dir).")
    ] = "txt",
    output_dir: Annotated[
        Path | None, Option("--output-dir", "-o", help="Write a file for each there instead of printing.")
    ] = None,
    language: Annotated[
        str | None, Option("--language", help="Whisper: spoken language, as en or English. [default: heard]")
    ] = None,
    task: Annotated[str | None, Option("--task", help="Whisper: transcribe, or translate into English.")] = None,
    word_timestamps: Annotated[
        bool, Option("--word-timestamps", help="The times of each word, in JSON and subtitles.")
    ] = False,
    no_timestamps: Annotated[
        bool, Option("--no-timestamps", help="Whisper: ask for no times; segments are whole windows.")
    ] = False,
    initial_prompt: Annotated[
        str | None, Option("--initial-prompt", help="Whisper: a text to go on from, with names to be spelt so.")
    ] = None,
    no_condition_on_previous_text: Annotated[
        bool, Option("--no-condition-on-previous-text", help="Whisper: hear every window by itself.")
    ] = False,
    temperature: Annotated[
        float | None, Option("--temperature", help="Whisper: of the first try. [default: 0]")
    ] = None,
    temperature_increment_on_fallback: Annotated[
        float | None,
        Option("--temperature-increment-on-fallback", help="Whisper: by how much it grows; 0: one try. [default: 0.2]"),
    ] = None,
    compression_ratio_threshold: Annotated[
        float | None,
        Option(
            "--compression-ratio-threshold", help="Whisper: a text that shrinks more repeats itself. [default: 2.4]"
        ),
    ] = None,
    logprob_threshold: Annotated[
        float | None, Option("--logprob-threshold", help="Whisper: a text less likely is tried again. [default: -1]")
    ] = None,
    no_speech_threshold: Annotated[
        float | None, Option("--no-speech-threshold", help="Whisper: more probably silence than that. [default: 0.6]")
    ] = None,
    hallucination_silence_threshold: Annotated[
        float | None,
        Option(
            "--hallucination-silence-threshold",
            help="Whisper: leave out odd texts beside so many seconds of silence; with --word-timestamps.",
        ),
    ] = None,
    num_beams: NumBeams = None,
    length_penalty: LengthPenalty = None,
    best_of: Annotated[
        int | None, Option("--best-of", help="Whisper: draws at temperatures above 0. [default: 5]")
    ] = None,
    max_new_tokens: Annotated[
        int | None, Option("--max-new-tokens", "--max-tokens", help="Most tokens of a window.")
    ] = None,
    seed: Annotated[int | None, Option("--seed", help="Whisper: seed of what is drawn.")] = None,
    method: Annotated[
        str | None, Option("--method", help="Models trained here: attention, ctc or joint. [default: what they have]")
    ] = None,
    ctc_weight: Annotated[
        float | None, Option("--ctc-weight", help="Models trained here: what CTC counts in joint decoding.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Write down what is said in files of sound, with a Whisper or a model that was trained here.

    Several files are printed as one line each, the name in front; with --output-dir there is a file for each. One that
    cannot be read is told, the others are done, and the exit code is 1.
    """
    formats = formats_of(output_format, output_dir)
    refuse_seconds(seconds, microphone)
    sources = sources_of(files, microphone)
    if output_dir is None and len(sources) > 1 and formats[0] not in ("txt", "json"):
        from glassformer.errors import ConfigError

        raise ConfigError(
            f"--output-format {formats[0]} of {len(sources)} files needs --output-dir, where each has its own"
        )
    pipe = opened(run, device, threads)
    settings = settings_of(
        pipe,
        given(
            language=language,
            task=task,
            words=word_timestamps or None,
            timestamps=False if no_timestamps else None,
            initial_prompt=initial_prompt,
            condition_on_previous_text=False if no_condition_on_previous_text else None,
            temperature=temperature,
            temperature_increment_on_fallback=temperature_increment_on_fallback,
            compression_ratio_threshold=compression_ratio_threshold,
            logprob_threshold=logprob_threshold,
            no_speech_threshold=no_speech_threshold,
            hallucination_silence_threshold=hallucination_silence_threshold,
            num_beams=num_beams,
            length_penalty=length_penalty,
            best_of=best_of,
            max_new_tokens=max_new_tokens,
            seed=seed,
            method=method,
            ctc_weight=ctc_weight,
        ),
    )
    stems = stems_of(sources)
    failed = 0
    for name, stem, found in zip(sources, stems, heard(pipe, sources, settings, seconds), strict=True):
        if found is None:
            failed += 1
            continue
        tell(found.notes)
        if output_dir is not None:
            write(output_dir / stem, found, formats)
        else:
            print(shown(label_of(name), found, formats[0], alone=len(sources) == 1), end="", flush=True)
    if failed:
        from glassformer.errors import DataError

        raise DataError(f"{failed} of {len(sources)} files could not be transcribed")


def formats_of(asked: str, folder: Path | None) -> list[str]:
    """The formats that are wanted. Raises ConfigError for one that there is not, and for all of them at once on a screen."""
    from glassformer.errors import ConfigError, nearest

    if asked == ALL:
        if folder is None:
            raise ConfigError("--output-format all needs --output-dir, where the files go")
        return list(FORMATS)
    if asked not in FORMATS:
        raise ConfigError(
            f"--output-format {asked!r} is not one of {', '.join((*FORMATS, ALL))}{nearest(asked, FORMATS)}"
        )
    return [asked]


def refuse_seconds(seconds: float | None, microphone: bool) -> None:
    """Raise ConfigError for a time to listen where nobody listens to the microphone."""
    from glassformer.errors import ConfigError

    if seconds is not None and not microphone:
        raise ConfigError(
            f"--seconds {seconds:g} is how long to listen to the microphone, with --microphone; files are read whole"
        )


def settings_of(pipe: Pipeline, asked: dict[str, Any]) -> dict[str, Any]:
    """The settings that this kind of model has, refused before anything is read. Raises ConfigError."""
    from glassformer.errors import ConfigError
    from glassformer.generate.purpose import refuse_unfit
    from glassformer.generate.whisper import WhisperSettings
    from glassformer.pipeline.listening import is_whisper, refuse_settings

    refuse_unfit(pipe.model, pipe.tokenizer, "transcribe")
    if is_whisper(pipe):
        if asked.get("temperature_increment_on_fallback") == 0:
            asked |= {"temperature_increment_on_fallback": None}
        flags = {name.replace("_", "-") for name in ("method", "ctc_weight") if name in asked}
        if flags:
            raise ConfigError(f"--{flags.pop()}: a Whisper has no CTC; the flag is for models trained here")
        refuse_settings(pipe, asked)
        return asked
    only = set(WhisperSettings.model_fields) - {"num_beams", "length_penalty", "max_new_tokens"}
    wrong = sorted(only & asked.keys())
    if wrong:
        flag = {"timestamps": "no-timestamps", "condition_on_previous_text": "no-condition-on-previous-text"}.get(
            wrong[0], wrong[0].replace("_", "-")
        )
        raise ConfigError(f"--{flag} is for Whisper models, and this one was trained here")
    refuse_settings(pipe, asked)
    return asked


def heard(
    pipe: Pipeline, sources: Sequence[str | None], settings: dict[str, Any], seconds: float | None
) -> Iterator[Transcription | None]:
    """What is said in each source; None where one of several cannot be read, which is told. Raises DataError of a single one."""
    from glassformer.errors import DataError
    from glassformer.pipeline.listening import listen

    for name in sources:
        progress = Progress(label_of(name), length_of(name))
        found = None
        try:
            source, rate = source_of(pipe, name, seconds)
            found = listen(pipe, source, settings | rate, progress)
        except DataError as error:
            progress.end()
            if len(sources) == 1:
                raise
            print(f"glassformer: {error}", file=sys.stderr)
        finally:
            progress.end()
        yield found


def shown(name: str, found: Transcription, kind: str, *, alone: bool) -> str:
    """What is printed: the whole format of one file; of several a line each, its name in front."""
    if alone:
        return FORMATS[kind](found)
    if kind == "json":
        import json

        return json.dumps({"file": name, **found.to_dict()}, ensure_ascii=False) + "\n"
    return f"{name}\t{' '.join(found.text.split())}\n"


def write(place: Path, found: Transcription, formats: Sequence[str]) -> None:
    """A file for each format: `place` and its ending. Raises DiskError."""
    from glassformer.files import whole_file

    for kind in formats:
        path = place.with_name(f"{place.name}.{kind}")
        with whole_file(path.absolute()) as draft:
            draft.write_text(FORMATS[kind](found), encoding="utf-8")
        print(path)
