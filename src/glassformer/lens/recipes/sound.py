"""Recipes of how a wave becomes vectors: frames, spectra, mel bands, logarithms, cepstra, deltas, normalisation."""

# b waves, y samples, s frames, u samples of a frame, w frequencies, m mel bands, q numbers of a cepstrum, e of a vector

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from glassformer.lens.recipes.expression import (
    Cases,
    Compare,
    Constant,
    Expression,
    Function,
    Index,
    Number,
    Over,
    indices,
    symbols,
    total,
)
from glassformer.lens.recipes.recipe import Recipe
from glassformer.ops import mel as arithmetic

y, s, u, w, m, q, e, r, k = indices("y s u w m q e r k")
x, frames, window, windowed, re, im, power, filters, bands, log_, loudest = symbols(
    "x frames window windowed re im power filters mel log loudest"
)
cosines, lifter, numbers, slopes, bends, average, deviation = symbols("cosines lifter numbers slopes bends mean std")
N, U, S, C, HOP, SHARE = (Constant(name) for name in ("Y", "U", "S", "C", "hop", "share"))
PI = Constant("π")


@cache
def emphasised() -> Recipe:
    """High frequencies lifted."""
    before = Cases(Compare(y, "<", Number(1)), x[Number(0)], x[y - 1])
    return Recipe(
        "sound.emphasised",
        "y",
        {"x": "y"},
        x[y] - SHARE * before,
        lambda x, share: arithmetic.preemphasise(x, share),
        "each sample less a share of the one before, which lifts high frequencies",
        "Young et al., The HTK Book, equation 5.1",
    )


@cache
def framed(*, centred: bool, drops_last: bool = False) -> Recipe:
    """Short stretches of the wave."""
    place: Expression = HOP * s + u
    if centred:  # mirrored at both ends
        place = Function("abs", place - Function("half", U))
        place = (N - 1) - Function("abs", (N - 1) - place)
    return Recipe(
        "sound.frames",
        "s u",
        {"x": "y"},
        x[place],
        lambda x, hop, U: cut(x, int(hop), int(U), centred=centred, drops_last=drops_last),
        "the wave cut into short stretches, each so many samples after the one before"
        + (", the wave mirrored at its ends" if centred else ""),
        "The HTK Book, section 5.2",
    )


def cut(x: Tensor, hop: int, size: int, *, centred: bool, drops_last: bool) -> Tensor:
    """The frames of waves; Whisper leaves out the last."""
    found = arithmetic.frames(x, size, hop, centred=centred)
    return found[..., :-1, :] if drops_last else found


@cache
def in_window() -> Recipe:
    """A frame that fades in and out."""
    return Recipe(
        "sound.windowed",
        "s u",
        {"frames": "s u", "window": "u"},
        frames[s, u] * window[u],
        lambda frames, window: frames * window[:, None],
        "each frame faded in and out, so that its ends do not sound",
    )


@cache
def spectrum(name: str) -> Recipe:
    """How well a frame fits a wave of each frequency: "re" a cosine, "im" a sine."""
    angle = 2.0 * PI * w * u / U
    wave = Function("cos" if name == "re" else "sin", angle)
    whole = total(u, windowed[s, u] * wave)
    return Recipe(
        f"sound.{name}",
        "s w",
        {"windowed": "s u"},
        whole if name == "re" else -whole,
        lambda windowed, **c: getattr(torch.fft.rfft(windowed), "real" if name == "re" else "imag").contiguous(),
        f"how well the frame fits a {'cosine' if name == 're' else 'sine'} of each frequency: the Fourier transform",
        "Cooley and Tukey 1965",
        size=lambda windowed, U, **c: (
            windowed.abs().sum(-1, keepdim=True).expand(*windowed.shape[:-1], int(U) // 2 + 1)
        ),
    )


@cache
def power_of() -> Recipe:
    """How strong each frequency is."""
    return Recipe(
        "sound.power",
        "s w",
        {"re": "s w", "im": "s w"},
        re[s, w] ** 2 + im[s, w] ** 2,
        lambda re, im: re.square() + im.square(),
        "how strong each frequency is in the frame, whatever its phase",
    )


@cache
def mel_bands() -> Recipe:
    """How strong each band is."""
    return Recipe(
        "sound.mel",
        "s m",
        {"filters": "m w", "power": "s w"},
        total(w, filters[m, w] * power[s, w]),
        lambda filters, power: power @ filters.mT,
        "how strong each band is: the powers of its frequencies, each as far as the band's triangle lets it in",
        "Davis and Mermelstein 1980",
    )


@cache
def logarithm(*, of_ten: bool) -> Recipe:
    """As loudness is heard."""
    floored = Cases(Compare(bands[s, m], "<", Number(arithmetic.FLOOR)), Number(arithmetic.FLOOR), bands[s, m])
    formula: Expression = Function("log", floored)
    return Recipe(
        "sound.log10" if of_ten else "sound.log",
        "s m",
        {"mel": "s m"},
        formula / Function("log", Number(10)) if of_ten else formula,
        lambda mel: mel.clamp(min=arithmetic.FLOOR).log() / (math.log(10) if of_ten else 1.0),
        "its logarithm, since ears hear ratios of powers as equal steps",
    )


@cache
def loudest_of_all() -> Recipe:
    """The loudest band of the whole wave."""
    return Recipe(
        "sound.loudest",
        "",
        {"log": "s m"},
        Over("max", "s", Over("max", "m", log_[s, m])),
        lambda log: log.amax((-2, -1)),
        "the loudest band of all frames",
    )


@cache
def as_whisper() -> Recipe:
    """The scale on which Whisper reads."""
    floor = loudest[()] - 8.0
    cut = Cases(Compare(log_[s, m], "<", floor), floor, log_[s, m])
    return Recipe(
        "sound.whisper",
        "s m",
        {"log": "s m", "loudest": ""},
        (cut + 4.0) / 4.0,
        lambda log, loudest: (torch.maximum(log, loudest[:, None, None] - 8.0) + 4.0) / 4.0,
        "nothing further than 8 below the loudest, then brought to about -1 to 1",
        "Radford et al. 2022, section 2.2",
    )


@cache
def cepstrum() -> Recipe:
    """The shape of the spectrum in a few numbers."""
    return Recipe(
        "sound.cepstrum",
        "s q",
        {"log": "s m", "cosines": "q m", "lifter": "q"},
        lifter[q] * total(m, log_[s, m] * cosines[q, m]),
        lambda log, cosines, lifter: (log @ cosines.mT) * lifter[:, None],
        "the shape of the spectrum in a few numbers: how well the logarithms fit cosines over the bands, and each number"
        " lifted so that high ones count too",
        "Davis and Mermelstein 1980",
    )


REACH = 2  # vectors on either side of which a line is fitted


@cache
def slope(name: str, letter: str) -> Recipe:
    """How fast each number changes. letter: of the numbers."""
    of = Index(letter)
    ahead = [clamped(s + step) for step in range(1, REACH + 1)]
    behind = [clamped(s - step) for step in range(1, REACH + 1)]
    terms = [float(n + 1) * (x[ahead[n], of] - x[behind[n], of]) for n in range(REACH)]
    divisor = 2 * sum(step * step for step in range(1, REACH + 1))
    return Recipe(
        f"sound.{name}",
        f"s {letter}",
        {"x": f"s {letter}"},
        (terms[0] + terms[1]) / float(divisor),
        lambda x, **c: arithmetic.deltas(x, REACH),
        "how fast each number changes: the slope of a line through two vectors on either side",
        "The HTK Book, equation 5.16",
    )


def clamped(place: Expression) -> Expression:
    """A place that stays where vectors are: max(0, place), and no more than S - 1."""
    low = Function("max0", place)
    return (S - 1) - Function("max0", (S - 1) - low)


@cache
def joined(order: int, letter: str) -> Recipe:
    """The numbers, behind them how fast they change."""
    size = Constant(letter.upper())
    formula: Expression = numbers[s, e]
    inputs = {"numbers": f"s {letter}", "slopes": f"s {letter}"}
    later: Expression = slopes[s, e - size]
    if order == 2:
        inputs["bends"] = f"s {letter}"
        later = Cases(Compare(e, "<", 2.0 * size), later, bends[s, e - 2.0 * size])
    return Recipe(
        "sound.joined",
        "s e",
        inputs,
        Cases(Compare(e, "<", size), formula, later),
        lambda numbers, slopes, bends=None, **c: torch.cat([numbers, slopes, *([] if bends is None else [bends])], -1),
        "the numbers of each vector, and behind them how fast they change",
    )


@cache
def mean_of(letter: str, over: str) -> Recipe:
    """The mean of all numbers together (over: "level"), of each channel ("utterance"), or of it so far ("running")."""
    of = Index(letter)
    match over:
        case "level":
            return Recipe(
                "sound.level.mean",
                "",
                {"x": f"s {letter}"},
                total(s, total(of, x[s, of])) / (S * C),
                lambda x, **c: x.mean((-2, -1)),
                "the mean of all numbers of all vectors",
            )
        case "utterance":
            return Recipe(
                "sound.mean",
                letter,
                {"x": f"s {letter}"},
                total(s, x[s, of]) / S,
                lambda x, **c: x.mean(-2),
                "the mean of each number over all vectors",
            )
    return Recipe(
        "sound.running.mean",
        f"s {letter}",
        {"x": f"r {letter}"},
        so_far(x[r, of]),
        lambda x: x.cumsum(-2) / counts(x),
        "the mean of each number over the vectors so far",
    )


def so_far(of: Expression) -> Expression:
    """The mean over the vectors up to this one."""
    return total(r, Cases(Compare(s, "<", r), Number(0), of)) / (s + 1)


def counts(x: Tensor) -> Tensor:
    """1, 2, 3..., one for each vector."""
    return torch.arange(1, x.shape[-2] + 1, dtype=x.dtype)[:, None]


@cache
def deviation_of(letter: str, over: str) -> Recipe:
    """How far numbers stray from that mean."""
    of = Index(letter)
    steady = Number(arithmetic.STEADY)
    match over:
        case "level":
            return Recipe(
                "sound.level.std",
                "",
                {"x": f"s {letter}", "mean": ""},
                Function("√", total(s, total(of, (x[s, of] - average[()]) ** 2)) / (S * C) + steady),
                lambda x, mean, **c: ((x - mean[:, None, None]).square().mean((-2, -1)) + arithmetic.STEADY).sqrt(),
                "how far the numbers stray from their mean, all of them taken together",
            )
        case "utterance":
            return Recipe(
                "sound.std",
                letter,
                {"x": f"s {letter}", "mean": letter},
                Function("√", total(s, (x[s, of] - average[of]) ** 2) / S + steady),
                lambda x, mean, **c: ((x - mean[:, None]).square().mean(-2) + arithmetic.STEADY).sqrt(),
                "how far each number strays from its mean, all vectors taken together",
            )
    return Recipe(
        "sound.running.std",
        f"s {letter}",
        {"x": f"r {letter}", "mean": f"s {letter}"},
        Function("√", so_far(x[r, of] ** 2) - average[s, of] ** 2 + steady),
        lambda x, mean: ((x.square().cumsum(-2) / counts(x) - mean.square()).clamp(min=0) + arithmetic.STEADY).sqrt(),
        "how far each number has strayed from its mean so far",
    )


@cache
def normalised(letter: str, over: str) -> Recipe:
    """Numbers on one scale."""
    of = Index(letter)
    axes, place, shape = {
        "level": ("", (), (..., None, None)),
        "utterance": (letter, (of,), (slice(None), None)),
        "running": (f"s {letter}", (s, of), (...,)),
    }[over]
    return Recipe(
        "sound.normalised",
        f"s {letter}",
        {"x": f"s {letter}", "mean": axes, "std": axes},
        (x[s, of] - average[place]) / deviation[place],
        lambda x, mean, std: (x - mean[shape]) / std[shape],
        "every number less its mean, in units of its deviation, so that a louder voice or another microphone looks alike",
        "Viikki and Laurila 1998",
    )
