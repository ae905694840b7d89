"""Nodes of how a wave becomes vectors, from the samples on, as a feature config says."""

# the vectors that the last of them makes are those that the encoder is given, but for rounding

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from glassformer.features import FeatureConfig
from glassformer.lens.recipes import sound
from glassformer.lens.recipes.recipe import Node, given, point

SAMPLES = "sound.samples"


def sound_nodes(features: FeatureConfig) -> Iterator[Node]:
    """From samples to vectors; none where vectors come as they are."""
    if features.kind == "vectors":
        return
    node = partial(Node, tapped=False)
    wave = given(SAMPLES)
    if features.preemphasis:
        yield node("sound.emphasised", sound.emphasised(), {"x": wave}, {"share": features.preemphasis})
        wave = point("sound.emphasised")
    cut: dict[str, float] = {"hop": float(features.hop), "U": float(features.n_fft), "Y": -1}
    yield node(
        "sound.frames", sound.framed(centred=features.centred, drops_last=features.kind == "whisper"), {"x": wave}, cut
    )
    inputs = {"frames": point("sound.frames"), "window": given("sound.window")}
    yield node("sound.windowed", sound.in_window(), inputs)
    for part in ("re", "im"):
        inputs = {"windowed": point("sound.windowed")}
        yield node(f"sound.{part}", sound.spectrum(part), inputs, {"U": float(features.n_fft), "π": math.pi})
    yield node("sound.power", sound.power_of(), {"re": point("sound.re"), "im": point("sound.im")})
    inputs = {"filters": given("sound.filters"), "power": point("sound.power")}
    yield node("sound.mel", sound.mel_bands(), inputs)
    logs = sound.logarithm(of_ten=features.kind == "whisper")
    yield node("sound.log", logs, {"mel": point("sound.mel")})
    last, letter = "sound.log", "m"
    if features.kind == "whisper":
        yield node("sound.loudest", sound.loudest_of_all(), {"log": point("sound.log")})
        inputs = {"log": point("sound.log"), "loudest": point("sound.loudest")}
        last = "sound.whisper"
        yield node(last, sound.as_whisper(), inputs)
    elif features.kind == "mfcc":
        inputs = {"log": point("sound.log"), "cosines": given("sound.cosines"), "lifter": given("sound.lifter")}
        last, letter = "sound.cepstrum", "q"
        yield node(last, sound.cepstrum(), inputs)
    if features.deltas:
        terms = {"numbers": point(last)}
        for name in ("slopes", "bends")[: features.deltas]:
            yield node(f"sound.{name}", sound.slope(name, letter), {"x": point(last)}, {"S": -1})
            last = f"sound.{name}"
            terms[name] = point(last)
        last = "sound.joined"
        yield node(last, sound.joined(features.deltas, letter), terms, {letter.upper(): -1})
        letter = "e"
    if features.normalise != "none":
        yield from normal_nodes(last, letter, features)


def normal_nodes(last: str, letter: str, features: FeatureConfig) -> Iterator[Node]:
    """Each number less its mean, in units of its deviation."""
    node = partial(Node, tapped=False)
    over = features.normalise
    counted: dict[str, dict[str, float]] = {
        "level": {"S": -1.0, "C": float(features.channels)},
        "utterance": {"S": -1.0},
        "running": {},
    }
    x, size = point(last), counted[over]
    yield node("sound.mean", sound.mean_of(letter, over), {"x": x}, size)
    inputs = {"x": x, "mean": point("sound.mean")}
    yield node("sound.std", sound.deviation_of(letter, over), inputs, size)
    yield node("sound.normalised", sound.normalised(letter, over), {**inputs, "std": point("sound.std")})
