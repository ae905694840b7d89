"""Sound as input: a wave becomes frames, frames become vectors, and vectors need no tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from glassformer.lens.arithmetic import bar
from glassformer.lens.parts import Equation, Picture, Table
from glassformer.lessons.lesson import Chapter, Heading, Part, Question, equation, numbers
from glassformer.lessons.models.ear import Ear, melody
from glassformer.nn.positions import sinusoids
from glassformer.ops.attention import softmax
from glassformer.ops.mel_scale import hertz_of, mel_of

EAR = Ear()
PITCHES = (440.0, 660.0, 880.0, 440.0)  # the last note is the first again
SECONDS, NOISE = 0.12, 0.05
SAMPLE = 5  # the sample that is worked out by hand
D_MODEL = 8
SHADES = " .:-=+*#%@"


def tell(seed: int) -> Iterator[Part]:
    """Samples, one Fourier sum by hand, mel bands, the cepstrum, and frames that attend to each other."""
    yield from samples(seed)
    yield from one_frequency(seed)
    yield from bands(seed)
    yield from vectors(seed)


def samples(seed: int) -> Iterator[Part]:
    """What a wave is, and the frames."""
    wave = heard(seed)
    yield (
        "Sound is air that swings, and a microphone writes down where it is, many times a second. So sound is numbers already. "
        f"Here are four tones of {', '.join(f'{pitch:g}' for pitch in PITCHES)} Hz, {SECONDS} seconds each, with two overtones "
        f"and some noise: {len(wave):,} numbers, {EAR.rate:,} a second. Sample {SAMPLE} of the first tone, without noise:"
    )
    at = SAMPLE / EAR.rate
    parts = [math.sin(2 * math.pi * PITCHES[0] * k * at) / 2 ** (k - 1) for k in (1, 2, 3)]
    yield Equation(
        f"x[{SAMPLE}]",
        (
            f"= sin(2π×{PITCHES[0]:g}×{SAMPLE}/{EAR.rate})",
            f"+ sin(2π×{PITCHES[0] * 2:g}×{SAMPLE}/{EAR.rate})/2",
            f"+ sin(2π×{PITCHES[0] * 3:g}×{SAMPLE}/{EAR.rate})/4",
        ),
    )
    yield equation(f"x[{SAMPLE}]", numbers().terms(torch.tensor(parts, dtype=torch.float64)))
    frames = EAR.frames(wave)
    yield (
        "One such number means nothing by itself. What the ear hears is how fast they swing, and for that it takes a stretch of "
        f"them: a frame of {EAR.frame} samples, {1000 * EAR.frame / EAR.rate:g} milliseconds, and the next one {EAR.hop} samples "
        f"later. The wave has {len(frames)} frames. Each fades in and out, so that its ends make no clicks."
    )


def one_frequency(seed: int) -> Iterator[Part]:
    """The Fourier transform as two dot products."""
    wave = heard(seed)
    frame, power = EAR.frames(wave)[0], EAR.power(wave)[0]
    loudest = int(power.argmax())
    hertz = EAR.frequencies
    yield Heading("How much of a frequency is in a frame: a dot product")
    yield (
        f"To ask for {hertz[loudest].item():g} Hz, multiply the frame with a cosine that swings {loudest} times in it, and add "
        "up; do the same with a sine; add the two squares. A dot product is large where two rows of numbers go up and down "
        "together:"
    )
    turns = 2 * math.pi * loudest * torch.arange(EAR.frame, dtype=torch.float64) / EAR.frame
    even, odd = numbers().products(frame, turns.cos()), numbers().products(frame, turns.sin())
    yield equation("cosine", even)
    yield equation("sine", odd)
    show = numbers().show
    squares = even.total**2 + odd.total**2
    yield Equation("power", (f"= ({show(even.total)})²", f"+ ({show(odd.total)})²", f"= {show(squares)}"))
    yield (
        f"torch.fft gives {show(power[loudest].item())}. It asks for all {len(power)} frequencies at once, from 0 to "
        f"{hertz[-1].item():g} Hz in steps of {hertz[1].item():g}. The five strongest of the first frame, a tone of "
        f"{PITCHES[0]:g} Hz with its overtones:"
    )
    strongest = sorted(power.topk(5).indices.tolist())
    top = power.max().item()
    yield Table(
        ("Hz", "power", ""),
        tuple((f"{hertz[i].item():g}", show(power[i].item()), bar(power[i].item() / top)) for i in strongest),
        ">><",
    )


def bands(seed: int) -> Iterator[Part]:
    """The mel scale, the bands, the picture, the cepstrum."""
    wave = heard(seed)
    show, edges = numbers().show, EAR.edges.tolist()
    yield Heading("Bands as the ear has them: mels")
    yield (
        "A step of 100 Hz sounds large from 200 to 300 Hz and small from 3,200 to 3,300. On the mel scale steps of one size "
        "sound alike:"
    )
    for hertz in (200, 300, 1000, 3200, 3300):
        yield Equation(f"mel({hertz})", (f"= 2595×log10(1 + {hertz}/700)", f"= {show(mel_of(hertz))}"))
    yield (
        f"So {EAR.n_bands} bands are laid evenly in mels. Each is a triangle over the frequencies, from where the band before "
        "has its peak to where the one after has it, and the band's number is the dot product of triangle and powers, as a "
        "logarithm. The peaks, in Hz:"
    )
    yield Equation("  ", tuple(f"{edge:.0f}" for edge in edges[1:-1]))
    x = EAR.hear(wave)
    yield "The whole wave, time from left to right, high bands above, and a denser sign where there is more:"
    yield Picture(tuple(shaded(x)))
    yield f"The four tones can be seen, and that the last is the first. Frame 0 is this vector of {EAR.n_bands} numbers:"
    yield Picture((numbers().vector(x[0], 8),))
    cepstrum = EAR.cepstrum(wave)
    yield (
        "Speech recognition long went a step further, to the cepstrum: the cosine transform of this vector, of which the first "
        f"numbers tell the rough shape, which is the vowel, and leave out the pitch. {cepstrum.shape[1]} of them for frame 0:"
    )
    yield Picture((numbers().vector(cepstrum[0], 8),))


def vectors(seed: int) -> Iterator[Part]:
    """Frames are embeddings already: none is like another, and they attend."""
    x = EAR.hear(heard(seed))
    yield Heading("Vectors without tokens")
    different = len({tuple(row) for row in x.tolist()})
    yield (
        f"A text of {len(x)} words repeats words, so it can be numbered and looked up. Of these {len(x)} frames {different} are "
        "different: there is nothing to number. But a lookup was only ever the way to vectors, and here they are. One matrix "
        f"turns the {x.shape[1]} numbers of each frame into the {D_MODEL} of the model, positions are added, and the transformer "
        "goes on as with words."
    )
    project = projection(seed)
    channel = x[0] @ project[0]
    entered = entered_model(x, project)
    yield equation("channel 0", numbers().products(x[0], project[0]))
    yield Equation(
        "with position 0",
        (f"= {numbers().show(channel.item())}", "+ sin(0)", f"= {numbers().show(entered[0, 0].item())}"),
    )
    yield (
        "What would attention make of frames? Take each frame, less the mean of all, as its own query, key and value, with "
        "nothing learned. The last frame then looks at the frames of each tone with these shares:"
    )
    shares = looks(x)
    tones = tone_of_frames()
    lines = [
        (f"{i}", f"{pitch:g}", numbers().show(share), bar(share))
        for i, (pitch, share) in enumerate(zip(PITCHES, shares, strict=True), start=1)
    ]
    yield Table(("tone", "Hz", "share", ""), tuple(lines), ">>><")
    yield (
        f"({tones.count(None)} frames lie across the end of a tone and are counted with neither.) It finds its own tone, and "
        f"the first one, which is the same, from {3 * SECONDS:g} seconds before."
    )


def worksheet(seed: int) -> Sequence[Question]:
    """Counting samples and frames, and the mel scale."""
    n_samples = len(heard(seed))

    def nearest_band() -> int:
        return int((EAR.edges[1:-1] - PITCHES[0]).abs().argmin()) + 1

    return [
        Question(
            f"How many numbers are two seconds of sound at {EAR.rate:,} a second?",
            lambda: 2 * EAR.rate,
            "one for each sample",
        ),
        Question(
            f"A frame has {EAR.frame} samples and the next begins {EAR.hop} later. How many whole frames are in "
            f"{n_samples:,} samples?",
            lambda: len(EAR.frames(heard(seed))),
            "the first, and one more for each hop that still leaves a whole frame",
        ),
        Question(
            f"How many Hz lie between two neighbouring frequencies of a frame of {EAR.frame} samples at {EAR.rate:,} a second?",
            lambda: EAR.frequencies[1].item(),
            "the slowest swing that fits is one turn in the frame",
        ),
        Question(
            "How many mels are 1,000 Hz, to the nearest whole number?",
            lambda: round(mel_of(1000)),
            "2595×log10(1 + 1000/700)",
        ),
        Question(
            f"There are {EAR.n_bands} bands, counted from 1. In which of them does {PITCHES[0]:g} Hz lie nearest to the peak?",
            nearest_band,
            "compare with the peaks above",
            tolerance=0,
        ),
        Question(
            "On which of the tones 1, 2, 3 does the last frame look most?",
            lambda: max(range(3), key=looks(EAR.hear(heard(seed))).__getitem__) + 1,
            "it is the same tone",
        ),
        Question("How many Hz are 1,000 mels?", lambda: hertz_of(1000), "the scale is made so that the two agree here"),
    ]


def heard(seed: int) -> Tensor:
    """The wave of this chapter."""
    return melody(PITCHES, SECONDS, EAR.rate, NOISE, seed)


def projection(seed: int) -> Tensor:
    """A random matrix from bands to the model's channels, as training would begin with: D M."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(D_MODEL, EAR.n_bands, generator=draw, dtype=torch.float64) / EAR.n_bands**0.5


def entered_model(x: Tensor, project: Tensor) -> Tensor:
    """Frames in the model's channels with their positions: T D."""
    return x @ project.T + sinusoids(torch.arange(len(x)), D_MODEL).double()


def tone_of_frames() -> list[int | None]:
    """Which tone each frame lies in, or None where it lies in two."""
    length, total = round(SECONDS * EAR.rate), len(PITCHES) * round(SECONDS * EAR.rate)
    starts = range(0, total - EAR.frame + 1, EAR.hop)
    return [at // length if at // length == (at + EAR.frame - 1) // length else None for at in starts]


def looks(x: Tensor) -> list[float]:
    """The last frame's attention to the frames of each tone, in shares of what goes to whole tones."""
    centred = x - x.mean(0)
    pattern = softmax(centred[-1] @ centred.T / x.shape[1] ** 0.5)
    tones = tone_of_frames()
    sums = [
        sum(share for share, tone in zip(pattern.tolist(), tones, strict=True) if tone == i)
        for i in range(len(PITCHES))
    ]
    return [share / sum(sums) for share in sums]


def shaded(x: Tensor) -> list[str]:
    """Bands as rows, the highest first, and frames as columns, each as a sign that is darker the less is there."""
    level = (x - x.min()) / (x.max() - x.min())
    return ["".join(SHADES[round(v * (len(SHADES) - 1))] for v in band) for band in level.T.flip(0).tolist()]


CHAPTER = Chapter(
    name="sound",
    title="sound as input: from a wave to vectors without tokens",
    tell=tell,
    worksheet=worksheet,
    sources='Brandon Rohrer, "Transformers from Scratch", section "Audio input"; the mel scale after O\'Shaughnessy, 1987.',
)
