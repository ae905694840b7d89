"""Embeddings and de-embeddings: from words to points and back."""

# N vocabulary, D width of the embedding

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from glassformer.lens.parts import Picture, Table
from glassformer.lessons.counting import n_weights
from glassformer.lessons.lesson import Chapter, Heading, Part, Question, numbers
from glassformer.lessons.matrices import bare, dot, matrix
from glassformer.lessons.models.hand_worked import exact
from glassformer.lessons.models.vocabulary import Vocabulary
from glassformer.lessons.models.word_map import WordMap, words_alone
from glassformer.lessons.sums import products
from glassformer.models import Decoder, ModelConfig, preset
from glassformer.ops.attention import softmax
from glassformer.trace import watch

# Laid out by hand: parts of a machine on the right, small words on the left, verbs around the middle.
POINTS: dict[str, tuple[float, float]] = {
    "and": (-1.6, -0.5),
    "battery": (1.8, 0.9),
    "check": (0.2, 0.6),
    "down": (-1.3, 1.1),
    "find": (-0.1, 0.3),
    "it": (-0.5, -1.2),
    "log": (1.6, 0.4),
    "out": (-1.5, 0.8),
    "please": (0.6, -1.4),
    "program": (1.9, 0.5),
    "ran": (0.3, 0.1),
    "the": (-1.9, -0.2),
    "whether": (-1.2, -0.9),
}
COMMANDS = {"show me my directories please": 2.0, "show me my files please": 3.0, "show me my photos please": 5.0}
ALIKE = ("directories", "files", "photos")  # the words that these commands treat in the same way
LARGE, WIDE = 50_000, 512  # a vocabulary of today, and the width of Vaswani et al. (2017)


def tell(seed: int) -> Iterator[Part]:
    """The chapter."""
    yield from sizes()
    yield from lookup()
    yield from neighbourhoods()
    yield from learned(seed)
    yield from back_to_words()
    yield from nearest_point()


def sizes() -> Iterator[Part]:
    """A table for every pair of words, and a point for every word."""
    table, embedded = pair_table(LARGE), embedding_weights(LARGE, WIDE)
    yield (
        f"A table of votes has a row for each pair of words and a column for each next word. With {len(POINTS)} words"
        f" these are {pair_table(len(POINTS)):,} numbers. With {LARGE:,} words they are {table:,}, or"
        f" {4 * table / 1e12:,.0f} terabytes of four bytes each, and every one would have to be learned from some text in"
        " which just that pair occurs."
    )
    yield (
        f"An embedding gives each word a point in a space of few dimensions instead. {LARGE:,} words with {WIDE} numbers"
        f" each are {embedded:,} numbers, {table / embedded:,.0f} times fewer."
    )


def lookup() -> Iterator[Part]:
    """The row of a matrix, by a product and by looking it up."""
    vocabulary, embedding = Vocabulary().fit(POINTS), model_of_points()
    place, show = vocabulary.index("battery"), numbers().show
    yield Heading("A one-hot vector times a matrix is a row")
    yield (
        f"Going from the one-hot vector of a word to its point is a product with a matrix of {len(POINTS)} rows and 2"
        f" columns. The vector of battery has its one in place {place}, so that all rows but that one are multiplied by 0:"
    )
    for axis, name in enumerate(("x", "y")):
        yield dot(name, vocabulary.one_hot("battery"), points()[:, axis])
    with watch(embedding, "decoder.embedding.token") as seen:
        embedding(torch.tensor([[place]]))
    row = seen["decoder.embedding.token"][0, 0]
    yield (
        f"The embedding of the project's own models looks the row up without multiplying; for the number {place} it answers"
        f" {bare(row)}, and the difference from the product is"
        f" {show(float((vocabulary.one_hot('battery') @ points() - row).abs().max()))}."
    )


def neighbourhoods() -> Iterator[Part]:
    """Points laid out by hand."""
    yield Heading("Near each other is alike")
    yield (
        "These points are laid out by hand: things that can be looked after on the right, small words on the left, verbs"
        " around the middle. Whatever a model learns to do at one point it does, nearly, at all points around it, so that"
        " what it has seen of one word serves the others."
    )
    yield Picture(tuple(plotted(points(), list(POINTS))))
    rows = [(word, *nearest_to(word)) for word in ("battery", "down", "check")]
    yield Table(
        ("word", "nearest", "distance"),
        tuple((word, other, numbers().show(distance)) for word, other, distance in rows),
        "<<>",
    )


def learned(seed: int) -> Iterator[Part]:
    """Points that are found by training."""
    word_map, show = commands(seed), numbers().show
    words = word_map.vocabulary.words
    inside, outside = closeness(word_map)
    yield Heading("Points that nobody has laid out")
    yield (
        "An embedding is a matrix of weights like any other, so it can be learned. Here are three commands:"
        f" {', '.join(f'{text!r} ({times:.0f} of {sum(COMMANDS.values()):.0f})' for text, times in COMMANDS.items())}."
        f" The {len(words)} words start at random points near the middle, and {word_map.steps} steps move them so"
        f" that what comes next is predicted better. The loss falls from {show(word_map.losses[0])} to"
        f" {show(word_map.losses[-1])}."
    )
    yield matrix(words, ("x", "y"), word_map.vectors, corner="word")
    yield (
        "Directories, files and photos are never said together, but please follows each of them. So the same is wanted of"
        " their points, and they move in the same direction. The cosine of the angle between two points says how far the"
        f" directions agree: 1 is the same, -1 the opposite. Between any two of the three it is {show(inside)} or more;"
        f" between one of them and any other word {show(outside)} or less."
    )
    chance = word_map.predict("my")
    said = ", ".join(f"{word} {show(float(chance[word_map.vocabulary.index(word)]))}" for word in ALIKE)
    times = ", ".join(f"{count:.0f}" for count in COMMANDS.values())
    yield f"After my the model says: {said}. The commands were said {times} times."


def back_to_words() -> Iterator[Part]:
    """The scores of all words for a point."""
    vocabulary, show = Vocabulary().fit(POINTS), numbers().show
    scores = scores_of("program", bias=False)
    yield Heading("De-embedding: back to words")
    yield (
        "A model that has worked with points has to say words in the end. That is a product with a matrix again, 2 rows"
        f" and {len(POINTS)} columns. Let it be the embedding, its rows and columns exchanged: then the score of a word is"
        " the dot product of the point with that word's own. For the point of program:"
    )
    yield products("program", points()[vocabulary.index("program")], points()[vocabulary.index("program")])
    yield products("log", points()[vocabulary.index("program")], points()[vocabulary.index("log")])
    order = scores.argsort(descending=True).tolist()
    yield Table(
        ("word", "score", ""),
        tuple((vocabulary.words[i], show(float(scores[i])), "█" * max(round(4 * float(scores[i])), 0)) for i in order),
        "<><",
    )
    negative = int((scores < 0).sum())
    yield (
        f"No score is zero any more: {negative} are negative, the words around program have high ones, and the highest says"
        f" {vocabulary.words[order[0]]}. Taking the highest is called argmax. Softmax (its own chapter) turns all of them"
        f" into chances: {show(float(softmax(scores)[order[0]]))} for {vocabulary.words[order[0]]},"
        f" {show(float(softmax(scores)[order[1]]))} for {vocabulary.words[order[1]]}."
    )


def nearest_point() -> Iterator[Part]:
    """Which words come back as themselves."""
    words, show = list(POINTS), numbers().show
    lost = [word for word in POINTS if said_for(word, bias=False) != word]
    yield Heading("Does every word come back as itself?")
    yield (
        f"Not with this matrix. {len(lost)} of the {len(words)} words come back as another one:"
        f" {', '.join(f'{word} as {said_for(word, bias=False)}' for word in lost)}. A dot product grows with the length of"
        f" both vectors, so that words far from the middle outdo those near to it: battery lies {show(length('battery'))}"
        f" away, check {show(length('check'))}."
    )
    found = sum(said_for(word, bias=True) == word for word in POINTS)
    point = points()[words.index("check")]
    yield (
        "A bias for each word mends it. The squared distance of a point e from a word w is e·e - 2 e·w + w·w; e·e is the"
        " same for all words, so the nearest word is the one with the largest e·w - w·w/2: the dot product and a bias of"
        f" -w·w/2. With it {found} of the {len(words)} words come back as themselves. For the point of check, the word"
        " check and the word that had won before it:"
    )
    for word in ("check", said_for("check", bias=False)):
        w = points()[words.index(word)]
        yield products(word, point, w, float(-w @ w / 2))
    tied, untied = tied_and_untied()
    yield (
        "A de-embedding with numbers of its own can learn such things; one that shares the embedding's numbers (called"
        f" tied) saves weights: {untied - tied:,} of {untied:,} in GPT-2's shape."
    )


def worksheet(seed: int) -> Sequence[Question]:
    """Questions on all of it."""
    words = Vocabulary().fit(POINTS).words
    return [
        Question(
            f"How many numbers does a table have with a row for each pair of {LARGE:,} words and a column for each next word?",
            lambda: float(pair_table(LARGE)),
            f"{LARGE:,} times {LARGE:,} rows, times {LARGE:,} columns.",
        ),
        Question(
            f"How many numbers does the embedding of 13 words in {WIDE} dimensions have?",
            lambda: float(embedding_weights(len(POINTS), WIDE)),
            "One row for each word, one column for each dimension.",
        ),
        Question(
            "Which word lies nearest to out in the picture?",
            lambda: nearest_to("out")[0],
            "Their coordinates differ least: the distance is the root of the sum of the squared differences.",
        ),
        Question(
            f"log lies at {POINTS['log']} and ran at {POINTS['ran']}. What score has log for the point of ran, without bias?",
            lambda: float(scores_of("ran", bias=False)[words.index("log")]),
            "The products of their first and of their second coordinates, added up.",
        ),
        Question(
            "Without bias, as which word does ran come back?",
            partial(said_for, "ran", bias=False),
            "ran lies near the middle, so a longer vector in about the same direction has a larger product with it.",
        ),
    ]


def pair_table(n_words: int) -> int:
    """The numbers in a table with a row for each pair of words and a column for each next word."""
    return n_words**2 * n_words


def embedding_weights(n_words: int, d_model: int) -> int:
    """The weights of an embedding, counted in a model that has nothing else but as large a de-embedding."""
    config = words_alone(1, 2).config.updated({"vocab_size": n_words, "d_model": d_model, "tied": True})
    return n_weights(config)


def tied_and_untied() -> tuple[int, int]:
    """The weights of GPT-2's shape with one matrix for embedding and de-embedding, and with two."""
    shape = {**preset("gpt2"), "vocab_size": 50257}
    return n_weights(ModelConfig.parse(shape)), n_weights(ModelConfig.parse({**shape, "tied": False}))


def points() -> Tensor:
    """The points of all words, N 2."""
    return exact(list(POINTS.values()))


def model_of_points(bias: bool = False) -> Decoder:
    """A decoder without layers whose embedding are the points, and whose de-embedding are the same, with the bias or not."""
    model = words_alone(len(POINTS), 2, bias=bias).requires_grad_(False)
    model.decoder.embedding.weight.copy_(points())
    model.head.linear.weight.copy_(points())
    if bias:
        model.head.linear.bias.copy_(-points().square().sum(1) / 2)
    return model


def scores_of(word: str, bias: bool) -> Tensor:
    """The score of each word for the point of one. N."""
    return model_of_points(bias)(torch.tensor([[list(POINTS).index(word)]]))[0, 0].double()


def said_for(word: str, bias: bool) -> str:
    """The word with the highest score for the point of one."""
    return list(POINTS)[int(scores_of(word, bias).argmax())]


def length(word: str) -> float:
    """How far the point of a word lies from the middle."""
    return float(points()[list(POINTS).index(word)].norm())


def nearest_to(word: str) -> tuple[str, float]:
    """The word nearest to another, and how far it is."""
    place = list(POINTS).index(word)
    distance = (points() - points()[place]).norm(dim=1)
    distance[place] = torch.inf
    return list(POINTS)[int(distance.argmin())], float(distance.min())


def plotted(at: Tensor, names: Sequence[str], columns: int = 60, rows: int = 17) -> Iterator[str]:
    """Names where their points are, on lines of text."""
    low, high = at.amin(0), at.amax(0)
    share = ((at - low) / (high - low)).tolist()
    lines = [[" "] * (columns + 12) for _ in range(rows)]
    for (x, y), name in zip(share, names, strict=True):
        line, start = lines[round((1 - y) * (rows - 1))], round(x * columns)
        line[start : start + len(name) + 2] = f"•{name} "
    yield from ("".join(line).rstrip() for line in lines)


@cache
def commands(seed: int) -> WordMap:
    """The embedding that is learned from the commands."""
    return WordMap(seed=seed).fit(COMMANDS)


def closeness(word_map: WordMap) -> tuple[float, float]:
    """The smallest cosine between two of the words that are treated alike, and the largest between one of them and another."""
    alike, places = word_map.alike(), [word_map.vocabulary.index(word) for word in ALIKE]
    others = [place for place in range(len(alike)) if place not in places]
    return float(alike[places][:, places].min()), float(alike[places][:, others].max())


CHAPTER = Chapter(
    "embeddings",
    "Embeddings and de-embeddings: words as points",
    tell,
    worksheet,
    '"Transformers from Scratch" (e2eml.school), sections Embeddings and De-embeddings; Vaswani et al. 2017, section 3.4',
)
