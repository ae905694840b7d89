"""The eight exercises of "The Random Transformer" as experiments: each runs something and reports what came out."""

# B batch, S source words, T target words, D model

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from glassformer.generate.beam import Beam, beam_search
from glassformer.generate.loop import generate_ids
from glassformer.generate.sampling import Sampling
from glassformer.lens.arithmetic import bar
from glassformer.lens.parts import Table
from glassformer.lessons.counting import multiplications
from glassformer.lessons.depth import LAYERS, grown, through
from glassformer.lessons.lesson import Part, numbers
from glassformer.lessons.matrices import bare, dot
from glassformer.lessons.models.pointer import Pointer
from glassformer.lessons.models.translator import PAIRS, Translator
from glassformer.lessons.models.word_map import words_alone
from glassformer.lessons.sums import at_most, products
from glassformer.models import Decoder, count_parameters
from glassformer.nn.mlp import Mlp
from glassformer.ops.attention import softmax
from glassformer.trace import watch

TURNED = {"one two": "uno dos", "two one": "dos uno"}  # the same words, told apart by their order alone
SMALL = {"n_layers": 1, "d_model": 8, "n_heads": 2, "d_head": 4, "d_value": 4, "d_ff": 16}
STORY: dict[str, dict[str, float]] = {  # the chance of each word to follow another
    "the": {"nice": 0.5, "dog": 0.4, "car": 0.1},
    "nice": {"woman": 0.4, "house": 0.3, "guy": 0.3},
    "dog": {"has": 0.9, "runs": 0.1},
    "car": {"is": 0.6, "drives": 0.4},
}
SPEECH = {"it": {"is": 1.0}, "is": {"very": 0.6, "good": 0.4}, "very": {"very": 0.6, "good": 0.4}}
END = "EOS"


@dataclass(frozen=True, slots=True)
class Finding:
    """What an experiment reports, as parts of a chapter and as numbers by name."""

    parts: tuple[Part, ...]
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Experiment:
    """An exercise and the function that runs it with a seed."""

    asks: str
    run: Callable[[int], Finding]


@cache
def translator(seed: int) -> Translator:
    """The whole transformer, trained to translate "hello world"."""
    return Translator(seed=seed).fit(PAIRS)


def positions(seed: int) -> Finding:
    """Trains two translators, one without positions, on pairs that differ in nothing but the order of their words."""
    show, words = numbers().show, ("one", "two", "uno", "dos", "SOS", END)
    losses, rows = dict[str, float](), list[tuple[str, ...]]()
    for scheme in ("none", "sinusoidal"):
        model = Translator(words, seed, steps=200, positions=scheme, **SMALL).fit(TURNED, enough=0.02)
        losses[scheme] = model.losses[-1]
        said = (" ".join(word for word in model.predict(text)[0] if word != END) for text in TURNED)
        rows.append((scheme, show(losses[scheme]), *said))
    floor = math.log(2) / 3
    parts = (
        'To tell "one two" from "two one", which have the same words and different translations. Two small translators learn'
        f" both pairs ({', '.join(f'{source} = {target}' for source, target in TURNED.items())}), one without positions:",
        Table(("positions", "loss at the end", *TURNED), tuple(rows), "<><<"),
        "Without positions the encoder gives both sources the same two vectors, so the decoder can only guess the first of"
        f" three words, and no training brings the loss below ln 2 / 3 = {show(floor)}.",
    )
    return Finding(parts, {"without": losses["none"], "with": losses["sinusoidal"], "floor": floor})


def two_attentions(seed: int) -> Finding:
    """Changes a word of the source, then one of the target, and looks which queries, keys and values change."""
    before = attended(seed, "hello world", "SOS hola")
    changed = {
        "source": attended(seed, "world world", "SOS hola"),
        "target": attended(seed, "hello world", "SOS mundo"),
    }
    moves = {
        (side, point): not torch.equal(before[point], after[point])
        for side, after in changed.items()
        for point in POINTS
    }
    rows = []
    for point in POINTS:
        kind, name = point.split(".")
        said = ("changes" if moves[side, point] else "stays" for side in changed)
        rows.append((kind.replace("_", "-"), {"q": "queries", "k": "keys", "v": "values"}[name], *said))
    own, cross = before["attention.pattern"][0], before["cross_attention.pattern"][0]
    parts = (
        "In where their keys and values come from. The trained translator has read hello world EOS and written SOS hola. In"
        " the first layer of its decoder, with hello in the source replaced by world, or hola in the target by mundo:",
        Table(("attention", "", "another source word", "another target word"), tuple(rows), "<<<<"),
        f"Self-attention compares {own.shape[1]} target words with {own.shape[2]} target words, and of these"
        f" {own.shape[1] * own.shape[2]} weights {int((own[0] == 0).sum())} is hidden, the one that looks ahead. Cross-attention"
        f" compares {cross.shape[1]} target words with {cross.shape[2]} source words and hides"
        f" {int((cross[0] == 0).sum())}: the source is there as a whole before the first word is written.",
    )
    count = {side: float(sum(moves[side, point] for point in POINTS)) for side in changed}
    return Finding(parts, {**count, "hidden": float((own[0] == 0).sum())})


POINTS = tuple(f"{kind}.{name}" for kind in ("attention", "cross_attention") for name in "qkv")


def attended(seed: int, source: str, target: str) -> dict[str, Tensor]:
    """What both attentions of the first layer of the decoder work with."""
    model, where = translator(seed), "decoder.blocks.0."
    names = [*POINTS, "attention.pattern", "cross_attention.pattern"]
    with watch(model.model, [where + name for name in names]) as seen:
        model.model(model.ids(target), source=model.ids(f"{source} {END}"))
    return {name: seen[where + name] for name in names}


def attention_width(seed: int) -> Finding:
    """Teaches heads of several widths where to look: each of eight words at one given other."""
    show, rows, right = numbers().show, list[tuple[str, ...]](), dict[int, int]()
    for width in (1, 2, 3, 8, 64):
        model = Pointer(width, seed=seed).fit()
        right[width] = model.n_right
        projections = (model.attention.q_proj, model.attention.k_proj)
        weights = sum(projection.weight.numel() for projection in projections)
        rows.append((str(width), f"{model.n_right} of {len(model.goal)}", show(model.on_goal()), f"{weights:,}"))
    scaled, plain = (Pointer(64, seed=seed, scale=scale).sharpness() for scale in (None, 1.0))
    parts = (
        "Eight words learn to look at one given other each. How far they come depends on how wide queries and keys are:",
        Table(("width", "look where they should", "weight there", "weights in both"), tuple(rows), ">>>>"),
        "With one number a query can only ask for the largest key or for the smallest, so two words out of eight can be found"
        " and no more, however long one trains. Two numbers are enough to find each of them, and a few more to be sure. Beyond"
        " that nothing is gained here, while weights and multiplications grow with the width. And wide heads begin badly unless"
        f" their scores are divided by the root of it: at 64 the largest weight before training is {show(scaled)} in the mean"
        f" with that, and {show(plain)} without, which leaves little slope to learn by.",
    )
    return Finding(
        parts, {f"right_{width}": float(n) for width, n in right.items()} | {"sharp": scaled, "too_sharp": plain}
    )


def feed_forward(seed: int) -> Finding:
    """Takes the MLP of the first layer apart: its layers, its zeros, and what it would be without them."""
    model = translator(seed)
    where = "encoder.blocks.0.mlp"
    mlp = model.model.get_submodule(where)
    assert isinstance(mlp, Mlp)
    with watch(model.model, ["encoder.blocks.0.resid_mid", f"{where}.*"]) as seen:
        model.model.read(model.ids(f"hello world {END}"))
    x, pre, act, out = (
        seen[name][0] for name in ("encoder.blocks.0.resid_mid", f"{where}.pre", f"{where}.act", f"{where}.out")
    )
    zeros, up, down = int((act[0] == 0).sum()), mlp.up_proj, mlp.down_proj
    alone = float((mlp(x[:1]) - out[:1]).abs().max())
    one_matrix = (down.weight @ up.weight, down.weight @ up.bias + down.bias)
    linear = float((down(up(x)) - (x @ one_matrix[0].T + one_matrix[1])).abs().max())
    apart = float((mlp(x[:1] + x[1:2]) - (mlp(x[:1]) + mlp(x[1:2]) - mlp(0 * x[:1]))).abs().max())
    weights, block = count_parameters(mlp), count_parameters(model.model.get_submodule("encoder.blocks.0"))
    parts = (
        f"A matrix to a wider space, a cut at zero, a matrix back. For hello, whose vector is {bare(x[0])} there, in the first"
        f" layer of the encoder: {up.in_features} numbers become {up.out_features}, of which the first is",
        dot("wide[0]", torch.cat((x[0], x.new_ones(1))), torch.cat((up.weight[0], up.bias[:1]))),
        f"All {up.out_features}: {bare(pre[0])}. Relu makes negative ones zero, {zeros} of them here. The second matrix makes"
        f" {down.out_features} numbers of the rest, {bare(out[0])}.",
        f"It sees one word at a time: given hello alone, its answer differs by {at_most(alone, 1e-12)}. Without the cut both"
        " matrices would be one: what their product, 4 by 4, makes of all words differs from what the two make by"
        f" {at_most(linear, 1e-12)}. With it the answer to a sum is no longer the sum of the answers; for hello and world they"
        f" differ by {numbers().show(apart)}. It has {weights} of the {block} weights of its block.",
    )
    return Finding(
        parts, {"zeros": float(zeros), "weights": float(weights), "linear": linear, "apart": apart, "alone": alone}
    )


def speed(seed: int) -> Finding:
    """Counts what the encoder does to read a text and what the decoder does to write one of the same length."""
    model, rows, counts = translator(seed).model, list[tuple[str, ...]](), dict[str, float]()
    for length in (4, 12):
        ids = torch.zeros(1, length, dtype=torch.long)
        memory = model.read(ids)
        done = {
            "encoder": multiplications(lambda ids=ids: model.read(ids)),
            "again": multiplications(
                lambda ids=ids, memory=memory: [model(ids[:, : t + 1], memory=memory) for t in range(ids.shape[1])]
            ),
            "cached": multiplications(lambda ids=ids, memory=memory: step_by_step(seed, ids, memory)),
        }
        counts |= {f"{name}_{length}": float(n) for name, n in done.items()}
        rows.append((str(length), "1", str(length), *(f"{n:,}" for n in done.values())))
    head = ("words", "passes to read", "to write", "reading", "writing", "writing with a cache")
    ratio = counts["again_12"] / counts["encoder_12"]
    parts = (
        "Because it needs its own last word before it can begin with the next. The encoder reads all words in one pass, side by"
        " side; the decoder takes a pass for each word that it writes. Passes, and multiplications of the matrices, counted in"
        " the translator's modules:",
        Table(head, tuple(rows), ">>>>>>"),
        f"Writing 12 words takes {numbers().show(ratio)} times the multiplications of reading as many, if every pass begins"
        " anew. A cache of the keys and values of the words before (the chapter on savings) takes away the repetition, but not"
        " the waiting: there are as many passes as before, one after the other, each with little to do.",
    )
    return Finding(parts, {**counts, "ratio": ratio})


def step_by_step(seed: int, ids: Tensor, memory: object) -> None:
    """Writes the target of 1 T word by word, each pass reading one word and the cache."""
    model = translator(seed).model
    cache = model.new_cache(1, memory=memory)  # type: ignore[arg-type]
    for token in ids[0]:
        model(token.view(1, 1), cache=cache)


def skips_and_norms(seed: int) -> Finding:
    """Trains four towers, with and without skips and norms, and sends two words through random blocks."""
    show, rows, losses = numbers().show, list[tuple[str, ...]](), dict[str, float]()
    for skips, norms in ((False, False), (False, True), (True, False), (True, True)):
        losses[f"{'skips' if skips else 'none'}_{'norms' if norms else 'none'}"] = grown(skips, norms, seed).losses[-1]
        rows.append(("yes" if skips else "no", "yes" if norms else "no", show(grown(skips, norms, seed).losses[-1])))
    largest = {kind: through(kind, seed)[-1].largest for kind in ("bare", "post")}
    parts = (
        f"The chapter on depth has both in full. Four towers of {LAYERS} blocks, after as much training:",
        Table(("skips", "norms", "loss"), tuple(rows), "<<>"),
        f"And the largest number behind {LAYERS} random blocks: {show(largest['bare'])} without either, {show(largest['post'])}"
        " with both. Skips carry what is known past every sublayer, and the gradient back; norms keep numbers at a size at"
        " which softmax and the next layer can work.",
    )
    return Finding(parts, {**losses, **largest})


def probabilities(seed: int) -> Finding:
    """Works out the first word of the translation from the decoder's last vector."""
    show, model = numbers().show, translator(seed)
    head = model.model.head.linear
    with watch(model.model, "head.logits") as seen:
        model.model(model.ids("SOS"), source=model.ids(f"hello world {END}"))
    x = model.model.hidden(model.ids("SOS"), source=model.ids(f"hello world {END}"))[0, -1]
    logits = seen["head.logits"][0, -1].double()
    chances = softmax(logits)
    order = chances.argsort(descending=True).tolist()
    best = order[0]
    rows = tuple(
        (model.words[i], show(float(logits[i])), show(float(chances[i])), bar(float(chances[i]))) for i in order
    )
    parts = (
        f"By a matrix with a column for each word of the vocabulary, and softmax. The decoder's vector behind SOS is {bare(x)};"
        f" the score of {model.words[best]} is its dot product with that word's column:",
        products(f"score[{model.words[best]}]", x, head.weight[best]),
        Table(("word", "score", "chance", ""), rows, "<>><"),
        f"Together the chances are {show(float(chances.sum()))}.",
    )
    return Finding(parts, {"sum": float(chances.sum()), "largest": float(chances.max()), "score": float(logits[best])})


def greedy(seed: int) -> Finding:
    """Compares the likeliest word each time with beam search and with chance, on two small tables of chances."""
    show = numbers().show
    story, words = chain(STORY)
    rows, chance = [], dict[str, float]()
    for name, beams in (("greedy", 1), ("beam of 2", 2)):
        found = beam_search(story, [[0]], Beam(num_beams=beams, max_new_tokens=3), eos_id=words.index(END))[
            0
        ].hypotheses[0]
        chance[name] = math.exp(found.log_probability)
        rows.append((name, " ".join(words[i] for i in (0, *found.ids[:-1])), show(chance[name])))
    speech, spoken = chain(SPEECH)
    said = {
        name: generate_ids(
            speech,
            [[0]] * n,
            max_new_tokens=20,
            sampling=Sampling(temperature=t),
            samples=range(n),
            eos_id=spoken.index(END),
            seed=seed,
        )
        for name, n, t in (("greedy", 1, 0.0), ("drawn", 200, 1.0))
    }
    loop = [spoken[i] for i in (0, *said["greedy"][0].ids)]
    ended = sum(completion.finish == "eos" for completion in said["drawn"])
    parts = (
        "Because the best beginning need not have the best end. In this small language nice is the likeliest word after the,"
        " but no word after nice is likely, while has nearly always follows dog. Beam search keeps the two best beginnings:",
        Table(("", "text", "chance"), tuple(rows), "<<>"),
        "And because nothing ever changes its mind. Where after very the likeliest word is very, with"
        f' {SPEECH["very"]["very"]:g} against {SPEECH["very"]["good"]:g} for good, the greedy text is "{" ".join(loop[:6])}'
        f' ..." and has not ended after {len(loop) - 1} words. Drawn by their chances, {ended} of 200 texts end by themselves'
        " before that.",
    )
    return Finding(
        parts,
        {"greedy": chance["greedy"], "beam": chance["beam of 2"], "loop": float(len(loop) - 1), "ended": float(ended)},
    )


def chain(chances: Mapping[str, Mapping[str, float]]) -> tuple[Decoder, list[str]]:
    """A decoder whose next word depends on the last alone, by a table of chances; words that nothing follows end the text."""
    words = list(dict.fromkeys([*chances, *(word for row in chances.values() for word in row), END]))
    model = words_alone(len(words), len(words)).requires_grad_(False)
    table = torch.zeros(len(words), len(words), dtype=torch.float64)
    for i, word in enumerate(words):
        for other, chance in chances.get(word, {END: 1.0}).items():
            table[i, words.index(other)] = chance
    model.decoder.embedding.weight.copy_(torch.eye(len(words)))
    model.head.linear.weight.copy_(table.clamp(min=1e-30).log().T)
    return model, words


EXPERIMENTS: dict[str, Experiment] = {  # in the order of the article
    "positions": Experiment("What is the purpose of the positional encoding?", positions),
    "two_attentions": Experiment("How do self-attention and encoder-decoder attention differ?", two_attentions),
    "attention_width": Experiment(
        "What would happen if our attention dimension was too small? What about if it was too large?", attention_width
    ),
    "feed_forward": Experiment("Briefly describe the structure of a feed-forward layer.", feed_forward),
    "speed": Experiment("Why is the decoder slower than the encoder?", speed),
    "skips_and_norms": Experiment(
        "What is the purpose of the residual connections and layer normalization?", skips_and_norms
    ),
    "probabilities": Experiment("How do we go from the decoder output to probabilities?", probabilities),
    "greedy": Experiment("Why is picking the most likely next token every single time problematic?", greedy),
}


def finding(name: str, seed: int) -> Finding:
    """What the experiment of that name reports. It runs once for each seed and number of digits that it is written with."""
    return found(name, seed, numbers().digits)


@cache
def found(name: str, seed: int, digits: int) -> Finding:
    """The same; `digits` are those that are in force."""
    return EXPERIMENTS[name].run(seed)


def reports(seed: int) -> Iterator[tuple[str, Finding]]:
    """Each exercise and what its experiment found."""
    for name, experiment in EXPERIMENTS.items():
        yield experiment.asks, finding(name, seed)
