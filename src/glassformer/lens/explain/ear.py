"""Which numbers are followed before an encoder's places: the vectors, and the frames, frequencies and samples behind them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from glassformer.generate.vectors import stride_of
from glassformer.lens.glass import Trace
from glassformer.lens.recipes import Node

HEARD = ("s", "t", "e", "m", "q", "w", "u", "y", "r")  # letters of axes that only this knows


@dataclass(frozen=True)
class Ear:
    """The numbers that lead to one place of the encoder."""

    trace: Trace
    place: int

    def index(self, letter: str, node: Node) -> int:
        """Where along one axis of a tensor."""
        match letter:
            case "s" | "r":
                return self.vector
            case "t":
                return self.left_at(node.name)
            case "e":
                return self.channel
            case "m":
                return self.band
            case "q":
                return self.channel % self.size_of("sound.cepstrum")
            case "w":
                return self.frequency
            case "u":
                return self.sample
            case _:
                return min(max(self.first_sample + self.sample, 0), self.samples.shape[-1] - 1)

    @cached_property
    def vector(self) -> int:
        """The vector in the middle of what the place hears."""
        return self.place * stride_of(self.trace.model.config)

    def left_at(self, name: str) -> int:
        """The same among what a convolution leaves."""
        reads = self.trace.model.config.vectors
        assert reads is not None
        number = int(name.partition(".convolutions.")[2].split(".")[0])
        at = self.place
        for stride in reads.strides[number + 1 :]:
            at *= stride
        return at

    @cached_property
    def channel(self) -> int:
        """The largest number of the vector: the loudest band."""
        return int(self.trace.replay.given["encoder.vectors"][0, self.vector].argmax())

    @cached_property
    def band(self) -> int:
        """The same band where vectors are bands, else the loudest."""
        bands = self.trace["sound.mel"][0, self.vector]
        are_bands = self.channel < len(bands) and "sound.cepstrum" not in self.trace.replay.graph
        return self.channel if are_bands else int(bands.argmax())

    @cached_property
    def frequency(self) -> int:
        """The frequency that gives most to the band."""
        filters = self.trace.replay.given["sound.filters"][0, self.band].double()
        return int((filters * self.trace["sound.power"][0, self.vector]).argmax())

    @cached_property
    def sample(self) -> int:
        """The largest sample of the frame."""
        return int(self.trace["sound.windowed"][0, self.vector].abs().argmax())

    @property
    def samples(self) -> Tensor:
        """The wave, 1 N."""
        return self.trace.replay.given["sound.samples"]

    @cached_property
    def first_sample(self) -> int:
        """Where the frame begins in the wave."""
        node = self.trace.replay.graph["sound.frames"]
        hop, size = int(node.constants["hop"]), int(node.constants["U"])
        centred = bool(self.trace.settings["features"]["centred"])
        return self.vector * hop - (size // 2 if centred else 0)

    def size_of(self, name: str) -> int:
        """The numbers of a vector, before their slopes."""
        return self.trace[name].shape[-1]
