"""What sections are called, and what they say about the cell that is followed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from glassformer.lens.explain.followed import Followed
from glassformer.lens.glass import Tokens
from glassformer.lens.hearing import seconds_of_trace
from glassformer.lens.recipes import Node

TITLES: dict[
    str, str
] = {  # the end of a tensor's name -> the title of its section; two parts of it before one, then its module
    "sound.emphasised": "SAMPLES, HIGH FREQUENCIES LIFTED",
    "sound.frames": "A FRAME OF THE WAVE",
    "sound.windowed": "THE FRAME IN ITS WINDOW",
    "sound.re": "SPECTRUM, COSINES",
    "sound.im": "SPECTRUM, SINES",
    "sound.power": "POWER OF A FREQUENCY",
    "sound.mel": "MEL BAND",
    "sound.log": "LOGARITHM OF THE BAND",
    "sound.loudest": "THE LOUDEST BAND OF ALL",
    "sound.whisper": "ON WHISPER'S SCALE",
    "sound.cepstrum": "CEPSTRUM",
    "sound.slopes": "HOW FAST IT CHANGES",
    "sound.bends": "HOW FAST THAT CHANGES",
    "sound.joined": "NUMBERS AND THEIR CHANGES",
    "sound.mean": "THE MEAN",
    "sound.std": "THE DEVIATION",
    "sound.normalised": "NORMALISED",
    "embedding.vectors": "VECTORS",
    "embedding.mapped": "VECTORS, MAPPED",
    "ctc.logits": "CTC: LOGITS",
    "ctc.top": "CTC: THE LARGEST LOGIT",
    "ctc.sum": "CTC: SUM OF EXPONENTIALS",
    "ctc.log_probability": "CTC: LOG PROBABILITY",
    "ctc.probability": "CTC: PROBABILITIES",
    "embedding.token": "EMBEDDING",
    "embedding.bigram": "PAIR WITH THE TOKEN BEFORE",
    "embedding.kind": "TEXT OF THE PAIR",
    "embedding.position": "POSITION",
    "embedding.sum": "SUM OF THE EMBEDDING",
    "embedding.out": "INTO THE FIRST LAYER",
    "positions.frequency": "SPEED OF TURNING",
    "positions.slope": "SLOPE OF THE HEAD",
    "positions.bucket": "BUCKET OF THE DISTANCE",
    "positions.bias": "BIAS OF THE POSITIONS",
    "resid_pre": "RESIDUAL STREAM",
    "q_linear": "QUERY, AS MAPPED",
    "q_norm.mean": "QUERY, ITS MEAN",
    "q_norm.std": "QUERY, ITS DEVIATION",
    "q_norm.rms": "QUERY, ITS SIZE",
    "q_norm.out": "QUERY, NORMALISED",
    "attention.q": "QUERY",
    "k_linear": "KEY, AS MAPPED",
    "k_norm.mean": "KEY, ITS MEAN",
    "k_norm.std": "KEY, ITS DEVIATION",
    "k_norm.rms": "KEY, ITS SIZE",
    "k_norm.out": "KEY, NORMALISED",
    "attention.k": "KEY",
    "attention.v": "VALUE",
    "attention.match": "QUERY TIMES KEY",
    "attention.scaled": "SCORES, SCALED",
    "attention.capped": "SCORES, CAPPED",
    "attention.scores": "SCORES",
    "attention.mask_rule": "MASK",
    "attention.masked": "SCORES, MASKED",
    "attention.top": "SOFTMAX, THE LARGEST",
    "attention.exp": "SOFTMAX, EXPONENTIALS",
    "attention.sum": "SOFTMAX, THEIR SUM",
    "attention.pattern": "SOFTMAX",
    "attention.z": "WEIGHTED SUM",
    "attention.joined": "HEADS SIDE BY SIDE",
    "attention.out": "OUTPUT OF ATTENTION",
    "attention_sum": "RESIDUAL SUM",
    "resid_mid": "RESIDUAL SUM",
    "resid_cross": "RESIDUAL SUM",
    "mlp.gate": "MLP, GATE",
    "mlp.up": "MLP, CONTENT",
    "mlp.pre": "MLP, ON THE WAY UP",
    "mlp.act": "ACTIVATION",
    "mlp.out": "OUTPUT OF THE MLP",
    "mlp_sum": "RESIDUAL SUM",
    "resid_post": "RESIDUAL SUM",
    "attention_norm": "NORM OF ATTENTION",
    "mlp_norm": "NORM OF THE MLP",
    "attention_out_norm": "NORM BEHIND ATTENTION",
    "mlp_out_norm": "NORM BEHIND THE MLP",
    "embedding.norm": "NORM OF THE EMBEDDING",
    "head.norm": "NORM BEFORE THE HEAD",
    "norm": "LAST NORM",
    "hidden.pre": "LAYER BEFORE THE HEAD",
    "hidden.out": "ITS ACTIVATION",
    "head.pooled": "VECTOR OF THE TEXT",
    "head.length": "ITS LENGTH",
    "head.out": "VECTOR AT LENGTH 1",
    "head.linear": "LOGITS, AS MAPPED",
    "head.scaled": "LOGITS, SCALED",
    "head.logits": "LOGITS",
    "head.top": "SOFTMAX, THE LARGEST LOGIT",
    "head.sum": "SOFTMAX, SUM OF EXPONENTIALS",
    "head.log_probability": "LOG PROBABILITY",
    "head.probability": "PROBABILITIES",
    "loss": "LOSS",
}
CONVOLVED = {"pre": "", "out": ", ITS ACTIVATION", "silent": ", SILENCE OF PADDING"}
STEPS = {"mean": "MEAN", "std": "DEVIATION", "rms": "SIZE"}  # of a norm
SOUNDS = {  # letters of what is heard, in words
    "s": "vector",
    "t": "place",
    "e": "channel",
    "m": "band",
    "q": "number",
    "u": "sample of the frame",
    "y": "sample",
}
ELSEWHERE = {  # schemes that add nothing to the embeddings -> where order enters
    "none": "Nothing is added for the position: only the mask knows which token came first.",
    "rotary": "Nothing is added for the position: rotary positions turn queries and keys instead, further for every later token.",
    "alibi": "Nothing is added for the position: with ALiBi each score loses a penalty that grows with the distance.",
    "relative": "Nothing is added for the position: a learned number for the distance is added to each score.",
}


def title_of(node: Node) -> str:
    """What a tensor's section is called."""
    if node.recipe.name == "residual.carried":
        return "RESIDUAL STREAM"
    parts = node.name.replace("cross_attention", "attention").split(".")
    before = "CROSS-ATTENTION: " if "cross_attention" in node.name else ""
    if "convolutions" in parts:
        return f"CONVOLUTION {int(parts[parts.index('convolutions') + 1]) + 1}{CONVOLVED[parts[-1]]}"
    for end in (".".join(parts[-2:]), parts[-1]):
        if end in TITLES:
            return before + TITLES[end]
    for norm in (".".join(parts[-3:-1]), parts[-2]):
        if norm in TITLES:
            step = STEPS.get(parts[-1])
            return before + TITLES[norm] + (f", {step}" if step else "")
    return before + parts[-1].replace("_", " ").upper()


def says(node: Node, followed: Followed, cell: tuple[int, ...]) -> str:
    """The recipe's sentence about this cell."""
    at = dict(zip(node.recipe.axes.split(), cell, strict=True))
    words = node.recipe.says
    for letter, tokens_of in (("i", asking), ("j", looked_at)):
        if letter in at:
            words = words.replace(f"token {letter}", followed.token(at[letter], tokens_of(node, followed)))
    where = ", ".join(place(node, followed, at))
    return f"{words}. Here: {where}." if where else f"{words}."


def asking(node: Node, followed: Followed) -> Tokens:
    """The tokens that the letter i counts."""
    return followed.trace.tokens.get(node.name.split(".")[0], followed.tokens)


def looked_at(node: Node, followed: Followed) -> Tokens:
    """The tokens that the letter j counts."""
    return followed.trace.keys_of(node.name)


def place(node: Node, followed: Followed, at: Mapping[str, int]) -> Iterator[str]:
    """Which cell it is, in words."""
    config = followed.config
    owner = "source " if "cross_attention" in node.name else ""
    if "i" in at:
        asks = followed.token(at["i"], asking(node, followed))
        yield asks + (f" at {owner}{followed.token(at['j'], looked_at(node, followed))}" if "j" in at else "")
    elif "j" in at:
        yield owner + followed.token(at["j"], looked_at(node, followed))
    if "h" in at:
        yield f"head {at['h']}"
    if "g" in at:
        shared = config.n_heads // config.n_kv_heads
        yield f"key/value head {at['g']}" + (f", which {shared} heads share" if shared > 1 else "")
    if "k" in at or "v" in at:
        of_a_head = "h" in at or "g" in at
        yield f"channel {at.get('k', at.get('v'))} of the head" if of_a_head else f"pair {at.get('k')}"
    if "d" in at:
        yield f"channel {at['d']}"
    if "c" in at:
        yield f"channel {at['c']} of all heads"
    if "f" in at:
        yield f"neuron {at['f']}"
    if "n" in at:
        yield f"'{followed.entry_label(at['n'])}'"
    yield from heard_place(followed, at)


def heard_place(followed: Followed, at: Mapping[str, int]) -> Iterator[str]:
    """Which number of a sound, of its vectors or of what convolutions leave of these."""
    seconds = seconds_of_trace(followed.trace)
    for letter, words in SOUNDS.items():
        if letter in at:
            time = f" at {at[letter] * seconds:.3f} s" if letter == "s" and seconds is not None else ""
            yield f"{words} {at[letter]}{time}"
    if "w" in at:
        features = followed.trace.settings["features"]
        yield f"frequency {at['w']}, {at['w'] * features['rate'] / features['n_fft']:g} Hz"
