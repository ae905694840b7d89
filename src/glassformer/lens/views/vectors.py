"""The view of vectors: what a model hears over time, as a picture of bands (a log-mel, of sound), with the words under it."""

# S vectors, F channels

from __future__ import annotations

import numpy as np

from glassformer.features import FeatureConfig
from glassformer.generate.vectors import stride_of
from glassformer.lens.glass.trace import Trace
from glassformer.lens.looking import given
from glassformer.lens.numbers import Array
from glassformer.lens.views.heard import (
    Spoken,
    crossing,
    moment,
    posteriors,
    refuse_texts,
    seconds_of_place,
    spans,
    spoken_by_attention,
    spoken_by_ctc,
    unit,
    words_of,
)
from glassformer.lens.views.parts import Grid, Part, Sheet, say
from glassformer.lens.views.view import View

SIZE = (880.0, 260.0)  # of the picture
BY_CTC = "Words along CTC's likeliest way; share: the least mean probability of their tokens"
BY_ATTENTION = "Words where their tokens look most, by the mean of all heads; share: of attention"
KINDS = {"log-mel": "band", "whisper": "band", "mfcc": "number"}


def vectors(trace: Trace) -> View:
    """The vectors over time, the lowest channel at the bottom, and the words where they are said."""
    refuse_texts(trace, "vectors")
    values = given(trace, "encoder.vectors").astype(np.float64)
    count, size = values.shape
    features = trace.settings.get("features")
    config = None if features is None else FeatureConfig.parse(features, "features")
    kind = "vectors" if config is None else config.kind
    arrays: dict[str, Array] = {"encoder.vectors": values}
    parts: list[Part] = list(trace.notes)
    if "sound.samples" in trace.replay.given and config is not None:
        samples = given(trace, "sound.samples")
        arrays["seconds"] = seconds = np.array(len(samples) / config.rate)
        parts.append(say(len(samples), " samples, ", config.rate, " a second: ", float(seconds), " seconds."))
    stride, places = stride_of(trace.model.config), len(trace.tokens["encoder"])
    parts.append(say(count, " vectors of ", size, " numbers; the encoder leaves ", places, " places of them."))
    words, how = heard(trace)
    names = tuple(row_name(config, channel) for channel in reversed(range(size)))
    is_timed = unit(trace) == "seconds"
    columns = tuple(f"{moment(trace, s):.2f}s" if is_timed else str(s) for s in range(count))
    title = {"log-mel": "Log-mel", "whisper": "Log-mel, on Whisper's scale", "mfcc": "Cepstra"}.get(kind, "Vectors")
    parts.append(
        Grid(
            f"{title} over time, the lowest {KINDS.get(kind, 'channel')} at the bottom",
            names,
            columns,
            values[:, ::-1].T,
            "size",
            across=(f"{KINDS.get(kind, 'channel')}s", "time"),
            under=spans(words, stride, count),
            drawn=SIZE,
        )
    )
    if words:
        begins, ends = (
            np.array([seconds_of_place(trace, place) for place in places])
            for places in ([w.first for w in words], [w.last + 1 for w in words])
        )
        arrays |= {"words.begin": begins, "words.end": ends, "words.share": np.array([w.share for w in words])}
        rows = tuple((w.label, float(begins[n]), float(ends[n]), float(w.share)) for n, w in enumerate(words))
        parts.append(Sheet(("word", f"from ({unit(trace)})", "to", "share"), rows, how))
    return View("vectors", f"What is heard: {trace.text}", tuple(parts), arrays)


def row_name(config: FeatureConfig | None, channel: int) -> str:
    """A channel; a mel band by the frequency of its peak."""
    if config is None or config.kind not in ("log-mel", "whisper") or channel >= config.n_mels:
        return str(channel)
    from glassformer.ops.mel_scale import mel_edges

    peak = mel_edges(config.n_mels, config.low_hz, config.high_hz, config.scale)[channel + 1]
    return f"{peak:,.0f} Hz"


def heard(trace: Trace) -> tuple[list[Spoken], str]:
    """The words with their places, and how these were found."""
    if not trace.settings.get("said"):
        return [], ""
    found = posteriors(trace)
    if found is not None:
        return words_of(spoken_by_ctc(trace, found)), BY_CTC
    pattern = crossing(trace, None, None)
    return ([], "") if pattern is None else (words_of(spoken_by_attention(trace, pattern)), BY_ATTENTION)
