"""The whole transformer on "hello world": trained while one reads, followed number by number, and asked eight questions."""

# S source words, T target words, D model

from __future__ import annotations

from collections.abc import Iterator, Sequence

from glassformer.lens.parts import Table
from glassformer.lessons.experiments import END, finding, reports, translator
from glassformer.lessons.lesson import Chapter, Heading, Part, Question, numbers
from glassformer.lessons.matrices import bare, dot, matrix
from glassformer.lessons.models.hand_worked import exact
from glassformer.lessons.models.translator import PAIRS
from glassformer.models import ModelConfig, count_parameters, preset
from glassformer.trace import Watcher, watch

SOURCE = f"hello world {END}"
WORDS = SOURCE.split()
SIZES = {
    "vectors": "d_model",
    "layers on each side": "n_layers",
    "heads": "n_heads",
    "width of a head": "d_head",
    "width of the MLP": "d_ff",
}


def tell(seed: int) -> Iterator[Part]:
    """The chapter."""
    yield from sizes(seed)
    yield from training(seed)
    seen = watched(seed, "SOS")
    yield from words_to_vectors(seed, seen)
    yield from encoder(seed, seen)
    yield from decoder(seed, seen)
    yield from writing(seed)
    for number, (asks, found) in enumerate(reports(seed), start=1):
        yield Heading(f"Exercise {number}. {asks}")
        yield from found.parts


def sizes(seed: int) -> Iterator[Part]:
    """This model beside that of the paper."""
    ours, paper = translator(seed).config, ModelConfig.parse({"vocab_size": 37_000, **preset("vaswani-base")})
    yield (
        "All pieces together: an encoder that reads hello world, and a decoder that writes hola mundo. It is the transformer of"
        ' 2017 in all but its sizes, which are those of "The Random Transformer":'
    )
    rows = tuple((name, str(getattr(ours, field)), str(getattr(paper, field))) for name, field in SIZES.items())
    yield Table(("", "here", "in the paper"), rows, "<>>")
    model = translator(seed)
    yield f"Its vocabulary is {', '.join(model.words)}. It has {count_parameters(model.model):,} weights."


def training(seed: int) -> Iterator[Part]:
    """How its loss falls."""
    model, show = translator(seed), numbers().show
    yield Heading("Training")
    yield (
        "With random weights it would say anything, as the article's does. So it learns three pairs first:"
        f" {', '.join(f'{source} = {target}' for source, target in PAIRS.items())}. The loss is minus the logarithm of the chance"
        f" that it gives to the right word, in the mean; it falls from {show(model.losses[0])} to {show(model.losses[-1])} in"
        f" {len(model.losses) - 1} steps:"
    )
    steps = sorted({*range(0, len(model.losses), max(len(model.losses) // 8, 1)), len(model.losses) - 1})
    longest = max(model.losses)
    yield Table(
        ("step", "loss", ""),
        tuple((str(step), show(model.losses[step]), "█" * round(40 * model.losses[step] / longest)) for step in steps),
        ">><",
    )


def words_to_vectors(seed: int, seen: Watcher) -> Iterator[Part]:
    """Numbers, rows, positions and their sum."""
    model = translator(seed)
    ids = model.ids(SOURCE)[0].tolist()
    embedding = model.model.encoder.embedding
    token, code, out = (seen[f"encoder.embedding.{name}"][0] for name in ("token", "position", "out"))
    channels = [str(channel) for channel in range(token.shape[1])]
    yield Heading("From words to vectors")
    yield (
        f"Each word has a number: {', '.join(f'{word} {i}' for word, i in zip(WORDS, ids, strict=True))}. {END} marks the end."
        f" The number picks a row of the embedding, for hello {bare(embedding.weight[ids[0]])}, which is multiplied by the"
        f" root of d_model, {bare(exact([embedding.scale]))[1:-1]}. The code of the position is added:"
    )
    yield matrix(WORDS, channels, token, corner="words")
    yield matrix(WORDS, channels, code.expand_as(token), corner="positions")
    yield matrix(WORDS, channels, out, corner="sum")


def encoder(seed: int, seen: Watcher) -> Iterator[Part]:
    """One word on its way through all layers."""
    config = translator(seed).config
    yield Heading("The encoder")
    yield (
        "In every layer each word looks at all words, adds what it found, is normalised, goes through the MLP, and is normalised"
        " again. How strongly hello looks at each in the two heads of the first layer:"
    )
    pattern = seen["encoder.blocks.0.attention.pattern"][0]
    yield matrix([f"head {head}" for head in range(config.n_heads)], WORDS, pattern[:, 0])
    yield "And what becomes of the vector of hello, layer by layer:"
    rows = [
        seen["encoder.embedding.out"][0, 0],
        *(seen[f"encoder.blocks.{n}.resid_post"][0, 0] for n in range(config.n_layers)),
    ]
    yield Table(
        ("", *(str(channel) for channel in range(config.d_model))),
        tuple(
            (name, *map(numbers().show, row.tolist()))
            for name, row in zip(["embedded", *(f"layer {n}" for n in range(config.n_layers))], rows, strict=True)
        ),
        "<" + ">" * config.d_model,
    )
    yield f"The vectors of all {len(WORDS)} words behind the last layer are the memory that the decoder looks at."


def decoder(seed: int, seen: Watcher) -> Iterator[Part]:
    """The start token, and what it looks at."""
    config, show = translator(seed).config, numbers().show
    where = f"decoder.blocks.{config.n_layers - 1}."
    alone = seen[f"{where}attention.pattern"][0, :, 0, 0]
    yield Heading("The decoder")
    yield (
        "It begins with SOS, the start. That word is alone, so that its attention to itself has the weights"
        f" {bare(alone)} in both heads, whatever its queries and keys are. Then it looks at the memory. In the last layer:"
    )
    pattern, v = seen[f"{where}cross_attention.pattern"][0], seen[f"{where}cross_attention.v"][0]
    yield matrix([f"head {head}" for head in range(config.n_heads)], WORDS, pattern[:, 0], corner="SOS looks at")
    first = show(float(v[0, 0, 0]))
    yield f"The first number that head 0 brings back is the first of each word's value, {first} for hello, weighted:"
    yield dot("z[0]", pattern[0, 0], v[0, :, 0])
    out = seen[f"{where}resid_post"][0, 0]
    yield f"Behind its last layer SOS has become {bare(out)}, from which exercise 7 below makes the first word."


def writing(seed: int) -> Iterator[Part]:
    """Word after word."""
    model, show = translator(seed), numbers().show
    said, chances = model.predict("hello world")
    yield Heading("Writing")
    yield "The likeliest word is written down and read again with those before it, until the likeliest is EOS:"
    rows = tuple(
        (" ".join(["SOS", *said[:step]]), word, show(chance))
        for step, (word, chance) in enumerate(zip(said, chances, strict=True))
    )
    yield Table(("has written", "writes", "with chance"), rows, "<<>")
    swapped = " ".join(word for word in model.predict("world hello")[0] if word != END)
    yield (
        f'It has learned its pairs and nothing else: world hello, which it has never seen, becomes "{swapped}". The'
        " exercises of the article follow, each as an experiment that has just been run."
    )


def worksheet(seed: int) -> Sequence[Question]:
    """A question on each exercise."""
    return [
        Question(
            'Exercise 1. Without positions, what is the least loss for "one two = uno dos" and "two one = dos uno"?',
            lambda: finding("positions", seed).numbers["floor"],
            "One of three words is a guess between two: ln 2 divided by 3.",
        ),
        Question(
            "Exercise 2. Of the six queries, keys and values in the table, how many change with the source?",
            lambda: finding("two_attentions", seed).numbers["source"],
            "Keys and values of cross-attention, and nothing else in the first layer.",
        ),
        Question(
            "Exercise 3. Queries and keys are one number wide: how many of eight words can look where they should?",
            lambda: finding("attention_width", seed).numbers["right_1"],
            "One finds the largest key and one the smallest.",
        ),
        Question(
            "Exercise 4. How many weights, biases included, has an MLP from 4 numbers to 8 and back?",
            lambda: finding("feed_forward", seed).numbers["weights"],
            "4 times 8 and 8, then 8 times 4 and 4.",
        ),
        Question(
            "Exercise 5. How many passes does the decoder take to write 12 words?",
            lambda: float(translator_passes(seed, 12)),
            "One for each word, with or without a cache.",
        ),
        Question(
            "Exercise 6. Which of the two lets a tower learn at all: skips or norms?",
            lambda: "skips" if skips_matter(seed) else "norms",
            "With norms alone the loss stays near that of guessing; with skips alone it falls.",
        ),
        Question(
            "Exercise 7. What do the chances of all words add up to?",
            lambda: finding("probabilities", seed).numbers["sum"],
            "Softmax divides each power by the sum of all.",
        ),
        Question(
            'Exercise 8. What chance has "the dog has" in the small language?',
            lambda: finding("greedy", seed).numbers["beam"],
            "0.4 for dog after the, times 0.9 for has after dog.",
        ),
    ]


def watched(seed: int, target: str) -> Watcher:
    """Everything the translator computes for the source and what has been written so far."""
    model = translator(seed)
    with watch(model.model) as seen:
        model.model(model.ids(target), source=model.ids(SOURCE))
    return seen


def translator_passes(seed: int, n_words: int) -> int:
    """How often the decoder runs to write so many words, counted."""
    model, passes = translator(seed).model, 0
    memory = model.read(translator(seed).ids(SOURCE))
    cache = model.new_cache(1, memory=memory)
    while cache.length < n_words:
        model(translator(seed).ids("SOS"), cache=cache)
        passes += 1
    return passes


def skips_matter(seed: int) -> bool:
    """Whether the tower with skips alone ended below the one with norms alone."""
    found = finding("skips_and_norms", seed).numbers
    return found["skips_none"] < found["none_norms"]


CHAPTER = Chapter(
    "whole",
    "The whole transformer: hello world becomes hola mundo",
    tell,
    worksheet,
    '"The Random Transformer" and its eight exercises; Vaswani et al. 2017',
)
