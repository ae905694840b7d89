"""Facts that a run on vectors must obey: they follow from the samples, and CTC's score of the words from its probabilities."""

# N samples, S vectors, F numbers of each, T places, V vocabulary

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.features import FeatureConfig
from glassformer.generate.ctc import text_log_probability
from glassformer.lens.glass.trace import Trace
from glassformer.lens.hearing import sound_given
from glassformer.lens.numbers import ROUNDING, exact, rounding
from glassformer.lens.parts import Check
from glassformer.ops import mel

FOURIER = 0.25  # what a fast transform loses, as a share of what a sum may, relative to the sum of the samples' sizes
FORWARD = 1e-9  # by which sums over all ways to spell a text may differ, relative to the log probability


def hearing_checks(trace: Trace) -> Iterator[Check]:
    """All that apply."""
    if "sound.samples" in trace.replay.given:
        yield from sound_checks(trace, FeatureConfig.parse(trace.settings["features"], "features"))
    name = ctc_logits(trace)
    if name and trace.settings.get("blank") is not None:
        yield from ctc_checks(trace, name, trace.settings["said"], int(trace.settings["blank"]))


def ctc_logits(trace: Trace) -> str:
    """The tensor that CTC reads; empty where there is none."""
    if "ctc.logits" in trace.replay.graph:
        return "ctc.logits"
    return "head.logits" if trace.task == "transcribe" and trace.stack == "encoder" else ""


def sound_checks(trace: Trace, features: FeatureConfig) -> Iterator[Check]:
    """The vectors are those that the recipes make of the samples, and the constants those of the features."""
    given = trace.replay.given
    samples, vectors = exact(given["sound.samples"]), exact(given["encoder.vectors"])
    follows = sound_given(given["sound.samples"], features)
    wrong = sum(not torch.equal(given[name].cpu(), tensor) for name, tensor in follows.items())
    yield Check("window and filters are those of the features", float(wrong), 0.0)
    made = trace[last_of_sound(trace)]
    if made.shape != vectors.shape:
        yield Check("vectors follow from the samples", torch.inf, 0.0)
        return
    tolerance = allowed(samples, features) + rounding(trace.model) * made.abs()
    yield nearest(f"{vectors.shape[1]:,} vectors follow from {samples.shape[1]:,} samples", made - vectors, tolerance)


def last_of_sound(trace: Trace) -> str:
    """The name of the tensor that is the vectors, made of the samples."""
    return [name for name in trace.replay.graph if name.startswith("sound.")][-1]


def nearest(label: str, difference: Tensor, tolerance: Tensor) -> Check:
    """The cell that comes nearest to failing."""
    size = difference.abs().nan_to_num(nan=torch.inf)
    share = torch.where(size == 0, 0.0, size / tolerance)
    place = int(share.argmax())
    return Check(label, float(size.flatten()[place]), float(tolerance.flatten()[place]))


def ctc_checks(trace: Trace, name: str, said: Sequence[int], blank: int) -> Iterator[Check]:
    """The log probability of the words, summed over all ways to spell them in two ways: by our own forward variables and by
    torch's loss."""
    log_p = trace[name][0].log_softmax(-1)
    ours = text_log_probability(log_p.numpy(force=True), said, blank)
    lengths = torch.tensor([len(log_p)]), torch.tensor([len(said)])
    targets = torch.tensor([list(said)], dtype=torch.long)
    theirs = -float(F.ctc_loss(log_p[:, None], targets, *lengths, blank=blank, reduction="sum"))
    difference = 0.0 if ours == theirs else abs(ours - theirs)  # both are -inf of more words than there are places
    allowed_by = FORWARD * max(1.0, abs(theirs)) if isfinite(theirs) else 0.0
    yield Check("CTC: the words' probability, summed in two ways", difference, allowed_by)


def allowed(samples: Tensor, features: FeatureConfig) -> Tensor:
    """By how much vectors (b S F) worked out in float32 may differ from those in float64, as rounding is handed on from the
    frames to the powers, the bands, their logarithms and what is made of these. samples: b N, float64."""
    x, error = bands_and_errors(samples, features)
    if features.kind == "whisper":
        return (error + error.amax((-2, -1), keepdim=True)) / 4 + 8 * ROUNDING
    if features.kind == "mfcc":
        turn = mel.cosines(features.n_mels, features.n_mfcc, torch.float64)
        lift = mel.lifter(features.n_mfcc, features.lifter, torch.float64)
        error = ((error + ROUNDING * x.abs()) @ turn.abs().mT) * lift.abs()
        x = mel.cepstrum(x, turn, lift)
    parts, errors = [x], [error]
    for _ in range(features.deltas):  # a slope hands on at most the largest error nearby
        most = errors[-1].amax(-2, keepdim=True) + ROUNDING * parts[-1].abs().amax(-2, keepdim=True)
        errors.append(most.expand_as(error))
        parts.append(mel.deltas(parts[-1]))
    x, error = torch.cat(parts, -1), torch.cat(errors, -1)
    if features.normalise == "none":
        return error + ROUNDING * x.abs()
    together = (-2, -1) if features.normalise == "level" else (-2,)
    most = error.amax(together, keepdim=True) + ROUNDING * x.abs().amax(together, keepdim=True)
    steps = torch.arange(1, x.shape[-2] + 1, dtype=x.dtype)[:, None]
    if features.normalise != "running":
        centred = x - x.mean(together, keepdim=True)
        spread = (centred.square().mean(together, keepdim=True) + mel.STEADY).sqrt()
    else:
        mean = x.cumsum(-2) / steps
        centred = x - mean
        spread = ((x.square().cumsum(-2) / steps - mean.square()).clamp(min=0) + mel.STEADY).sqrt()
    return 2 * most / spread * (1 + 2 * (centred / spread).abs()) + ROUNDING


def bands_and_errors(samples: Tensor, features: FeatureConfig) -> tuple[Tensor, Tensor]:
    """The logarithms of the bands (b T M, natural), and what float32 may have lost of them."""
    wave = mel.preemphasise(samples, features.preemphasis) if features.preemphasis else samples
    window = mel.window(features.window_shape, features.window, features.n_fft, torch.float64)
    cut = mel.frames(wave, features.n_fft, features.hop, centred=features.centred)
    if features.kind == "whisper":
        cut = cut[..., :-1, :]
    filters = exact(sound_given(samples[:, :1], features)["sound.filters"])
    power = mel.power_spectrum(cut, window)
    amplitude = FOURIER * ROUNDING * (cut * window).abs().sum(-1, keepdim=True)
    bands = power @ filters.mT
    error = (2 * power.sqrt() * amplitude + amplitude.square()) @ filters.mT + ROUNDING * bands
    x = bands.clamp(min=mel.FLOOR).log()
    ends = ((bands + error).clamp(min=mel.FLOOR), (bands - error).clamp(min=mel.FLOOR))
    return x, (ends[0] / ends[1]).log() + ROUNDING * x.abs()
