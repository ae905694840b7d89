"""Proofs about reading: texts together, padded on either side, packed into one row, or each by itself."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from glassformer.lens.prove.finding import Finding, Unchecked, does_not_apply
from glassformer.lens.prove.sides import Call, Spot, compare, whole
from glassformer.lens.prove.subject import Subject

ONE_SIDE = "vectors are padded on the right alone"
ONE_ANSWER = "the model gives one answer for a whole row"


def batched(subject: Subject) -> Finding | Unchecked:
    """All texts in one call, padded on the right as in training, against each by itself."""
    return compare(subject.model, subject.batched(), subject.one_by_one)


def padding(subject: Subject) -> Finding | Unchecked:
    """Padding on the left, as in generation, against padding on the right."""
    if subject.hears and subject.shape == "encoder":
        return does_not_apply(ONE_SIDE)
    return compare(subject.model, subject.batched("left"), subject.batched("right"))


def source_padding(subject: Subject) -> Finding | Unchecked:
    """Sources padded on the left (vectors on the right), each target by itself with the source as it is."""
    if subject.shape != "encoder_decoder":
        return does_not_apply("the model reads no source")
    edge = "right" if subject.hears else "left"  # vectors are padded on the right alone
    return compare(subject.model, subject.batched("right", edge), subject.one_by_one)


def packed(subject: Subject) -> Finding | Unchecked:
    """All texts in one row that numbers its documents, against each by itself."""
    if subject.shape == "encoder_decoder":
        return does_not_apply("an encoder-decoder has no packed rows")
    if whole(subject.model):
        return does_not_apply(ONE_ANSWER)
    if subject.hears:
        return does_not_apply("vectors are not packed into rows")

    def side() -> Iterator[Call]:
        ids, documents, spots, start = [], [], [], 0
        for number, text in enumerate(subject.texts):
            columns = torch.arange(start, start + len(text.ids))
            spots.append(Spot(number, 0, columns, columns))
            ids += text.ids
            documents += [number] * len(text.ids)
            start += len(text.ids)
        yield Call({"ids": subject.tensor([ids]), "documents": subject.tensor([documents])}, tuple(spots))

    return compare(subject.model, side, subject.one_by_one)
