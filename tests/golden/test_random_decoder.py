"""The decoder half of a transformer worked out by hand, through our own modules, to the printed digits.

Source: "The Random Transformer", https://osanseviero.github.io/hackerllama/blog/posts/random_transformer/, from the start
token to the greedy loop. Its decoder has matrices drawn without a seed that are not printed, so these of its numbers cannot
be worked out again: the outputs of both attentions, the last output of the block, the logits, the encoder's output and the
three probabilities of the loop. What is printed is held against what follows from it:

- the first sum and norm follow from the printed operands, to all digits;
- the second do not: of the printed operands the norm is (0.0843, 1.6029, -0.8541, -0.8331), printed is (-0.4441, 1.6553,
  -0.1998, -1.0114), which is some other vector's norm: the cells ran at different times;
- the last output is called a norm and is none, its mean being -1.59, so that the code shown cannot have printed it;
- six blocks print two rows where one went in, both of them norms;
- the printed probabilities are not the softmax of the printed logits, which favour "?";
- the loop prints "hola mundo world" and the text below it speaks of "how", "a" and "c".
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from glassformer.models import ModelConfig, build_model, preset
from glassformer.models.heads import Head
from glassformer.models.stack import build_block
from glassformer.nn.attention import CrossAttention
from glassformer.nn.cache import Memory
from glassformer.nn.norms import LayerNorm
from glassformer.nn.positions import Place, unturned
from glassformer.ops import attention as ops
from glassformer.ops.masks import Look
from glassformer.trace import watch

WORDS = ("hello", "mundo", "world", "how", "?", "EOS", "SOS", "a", "hola", "c")
TABLE = [
    [-0.32106406, 2.09332588, -0.77994069, 0.92639774],
    [-0.59563791, -0.63389256, 1.70663692, -0.99495115],
    [1.35581862, -0.0323546, 2.76696887, 0.83069982],
    [-0.52975474, 0.94439644, 0.80073818, -1.50135518],
    [-0.88116833, 0.13995055, 2.01827674, -0.52554391],
    [1.12207024, 1.40905796, 1.22231714, 0.02267638],
    [-0.60624082, -0.67560165, 0.77152125, 0.63472247],
    [1.67622229, -0.20319309, -0.18324905, -0.24258774],
    [1.07809402, -0.83846408, -0.33448976, 0.28995976],
    [0.65643157, 0.24935726, -0.80839751, -1.87156293],
]
START = [1.0, 1.0, 0.0, 1.0]  # the start token's vector and the code of position 0
ENCODER_OUTPUT = [[-1.5, 1.0, -0.8, 1.5], [1.0, -1.0, -0.5, 1.0]]
SELF_ATTENTION = [2.19334924, 10.61851198, -4.50089666, -2.76366551]
SELF_NORMED = [0.17236212, 1.54684892, -1.0828824, -0.63632864]
CROSS_ATTENTION = [1.57651431, 4.92489307, -0.08644448, -0.46776051]
CROSS_NORMED = [-0.44406723, 1.6552893, -0.19984632, -1.01137575]
OUTPUT = [-0.97650182, 0.81470137, -2.79122044, -3.39192873]
SIX_BLOCKS = [[0.25919176, 1.49913566, -1.14331487, -0.61501256], [0.25956188, 1.49896896, -1.14336934, -0.61516151]]
SIX_ENCODER_BLOCKS = [
    [1.14747807, -1.5941759, 0.36847675, 0.07822107],
    [1.14747705, -1.59417696, 0.36847441, 0.07822551],
]
LOGITS = [
    *(0.06900542, -1.81351091, -1.3122958, -0.33197364, 2.54767851),
    *(-1.55188231, 0.82907169, 0.85910931, -0.32982856, -1.26792439),
]
PROBABILITIES = [
    *(0.01602618, 0.06261303, 0.38162024, 0.03087794, 0.0102383),
    *(0.00446011, 0.01777314, 0.00068275, 0.46780959, 0.00789871),
]
LOOP = {"hola": 0.4327111653266739, "mundo": 0.4411354383451089, "world": 0.4746898792307499}  # the loop's three steps
DIGITS = {"atol": 0.6e-8, "rtol": 0}  # eight decimals are printed, of operands too
SEEING_ALL = Place(Look(), unturned)


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


def hand_sized(**fields):
    """The preset with the ten words, in float64. The article does not scale its embeddings."""
    values = {**preset("hand-sized"), "vocab_size": len(WORDS), "embedding_scale": False, **fields}
    return build_model(ModelConfig.parse(values)).double().requires_grad_(False)


def ids(*words):
    return torch.tensor([[WORDS.index(word) for word in words]])


def decoder_block():
    """One block of the decoder, every matrix standard normal, as in the article."""
    block = build_block(hand_sized().config, 0, d_memory=4).double().requires_grad_(False)
    for name, weight in block.named_parameters():
        if "norm" not in name:
            weight.normal_()
    return block


def norm_of_sum(total):
    """A norm whose divisor is the article's: there epsilon, 1e-6, is added to the deviation, here to the variance."""
    deviation = total.std(correction=0).item()
    return LayerNorm(4, (deviation + 1e-6) ** 2 - deviation**2).double().requires_grad_(False)


def assert_is_a_norm(row):
    """Its norm is the row itself, as far as the article's epsilon lets it: mean 0 and deviation 1."""
    assert_close(LayerNorm(4, 1e-12).double()(row).detach(), row, atol=2e-6, rtol=0)


def test_the_sizes_are_those_of_the_article_and_of_the_paper_at_its_end():
    def sizes(name):
        config = ModelConfig.parse({"vocab_size": 10, **preset(name)})
        layers = (config.source_side().n_layers, config.n_layers)
        return (config.d_model, *layers, config.d_ff, config.n_heads, config.d_head, config.d_value)

    assert sizes("hand-sized") == (4, 6, 6, 8, 2, 3, 3)
    assert sizes("vaswani-base") == (512, 6, 6, 2048, 8, 64, 64)


def test_the_start_token_at_position_zero():
    model = hand_sized()
    model.decoder.embedding.token.weight[WORDS.index("SOS")] = exact([1, 0, 0, 0])
    with watch(model, "decoder.embedding.*") as seen:
        model(ids("SOS"), source=ids("hello", "world"))
    assert seen["decoder.embedding.token"].tolist() == [[[1, 0, 0, 0]]]
    assert seen["decoder.embedding.position"].tolist() == [[[0, 1, 0, 1]]]
    assert seen["decoder.embedding.out"].tolist() == [[START]]


def test_a_token_that_is_alone_looks_at_itself():
    """So the article's first self-attention is its two value matrices and W, whatever the queries and keys were."""
    attention = decoder_block().attention
    x = exact([[START]])
    with watch(attention) as seen:
        out = attention(x, SEEING_ALL)
    assert (seen["pattern"] == 1).all()
    values = x @ attention.v_proj.weight.T + attention.v_proj.bias
    assert_close(out, values @ attention.o_proj.weight.T + attention.o_proj.bias)


def test_self_attention_is_added_and_normalised():
    """The block goes on from the printed output of its attention, which is put in the place of its own."""
    block = decoder_block()
    block.attention_norm = norm_of_sum(exact(START) + exact(SELF_ATTENTION))
    with watch(block, "resid_mid", edit={"attention.out": lambda out: exact([[SELF_ATTENTION]])}) as seen:
        block(exact([[START]]), SEEING_ALL, None, Memory(exact([ENCODER_OUTPUT])))
    assert_close(seen["resid_mid"][0, 0], exact(SELF_NORMED), **DIGITS)
    # With epsilon in its usual place seven decimals agree.
    usual = LayerNorm(4, 1e-6).double().requires_grad_(False)
    assert_close(usual(exact(START) + exact(SELF_ATTENTION)), exact(SELF_NORMED), atol=3e-7, rtol=0)


def test_cross_attention_takes_queries_from_the_decoder_and_keys_and_values_from_the_encoder():
    """Over the printed encoder output, head by head as in the article's encoder_decoder_attention, with random matrices."""
    module = CrossAttention(
        layer=0,
        d_model=4,
        n_heads=2,
        n_kv_heads=2,
        d_head=3,
        d_value=3,
        bias=False,
        out_bias=False,
        d_memory=4,
    )
    module.double().requires_grad_(False)
    for weight in module.parameters():
        weight.normal_()
    encoder_output, asking = exact(ENCODER_OUTPUT), exact([SELF_NORMED])
    heads = []
    for rows in (slice(0, 3), slice(3, 6)):
        key = encoder_output @ module.k_proj.weight[rows].T
        value = encoder_output @ module.v_proj.weight[rows].T
        query = asking @ module.q_proj.weight[rows].T
        grown = (query @ key.T / math.sqrt(3)).exp()
        heads.append(grown / grown.sum(1, keepdim=True) @ value)
    expected = torch.cat(heads, dim=1) @ module.o_proj.weight.T
    memory = Memory(encoder_output[None])
    assert_close(module(asking[None], memory)[0], expected)
    with watch(module) as seen:
        assert_close(module(asking[None], memory)[0], expected)
    assert seen["pattern"].shape == (1, 2, 1, 2)  # two heads, one word asking, two words looked at


def test_cross_attention_is_added_and_normalised_and_is_not_what_is_printed():
    block, total = decoder_block(), exact(CROSS_ATTENTION) + exact(SELF_NORMED)
    block.attention_norm = norm_of_sum(exact(START) + exact(SELF_ATTENTION))
    block.cross_attention_norm = norm_of_sum(total)
    edit = {
        "attention.out": lambda out: exact([[SELF_ATTENTION]]),
        "cross_attention.out": lambda out: exact([[CROSS_ATTENTION]]),
    }
    with watch(block, "resid_*", edit=edit) as seen:
        block(exact([[START]]), SEEING_ALL, None, Memory(exact([ENCODER_OUTPUT])))
    expected = (total - total.mean()) / (total.std(correction=0) + 1e-6)
    assert_close(seen["resid_cross"][0, 0], expected, **DIGITS)
    assert_close(expected, exact([0.0843, 1.6029, -0.8541, -0.8331]), atol=0.5e-4, rtol=0)
    assert_is_a_norm(exact(CROSS_NORMED))
    assert (expected - exact(CROSS_NORMED)).abs().max() > 0.5


def test_the_mlp_is_added_and_normalised_and_the_printed_output_is_no_norm():
    block = decoder_block()
    x = exact([[CROSS_NORMED]])
    hidden = (x @ block.mlp.up_proj.weight.T + block.mlp.up_proj.bias).clamp(min=0)
    total = x + hidden @ block.mlp.down_proj.weight.T + block.mlp.down_proj.bias
    edit = {"resid_cross": lambda value: x}
    with watch(block, "resid_post", edit=edit) as seen:
        block(exact([[START]]), SEEING_ALL, None, Memory(exact([ENCODER_OUTPUT])))
    normed = (total - total.mean()) / (total.var(correction=0) + 1e-5).sqrt()
    assert_close(seen["resid_post"], normed)
    assert seen["resid_post"].mean().abs() < 1e-12
    assert exact(OUTPUT).mean().item() == pytest.approx(-1.5862, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_six_random_blocks_give_a_norm_for_each_row(seed):
    torch.manual_seed(seed)
    x, memory = exact([[START]]), Memory(exact([ENCODER_OUTPUT]))
    for _ in range(6):
        x = decoder_block()(x, SEEING_ALL, None, memory)
    assert x.shape == (1, 1, 4)
    assert_close(x.mean(-1), exact([[0.0]]), atol=1e-6, rtol=0)
    assert_close(x.std(-1, correction=0), exact([[1.0]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("row", [*SIX_BLOCKS, *SIX_ENCODER_BLOCKS, SELF_NORMED, CROSS_NORMED], ids=str)
def test_what_six_blocks_print_are_norms(row):
    assert_is_a_norm(exact(row))


def test_the_last_linear_map_and_its_softmax():
    """The vector [1, 0, 1, 0] picks two columns of the matrix; that they and the bias add up to the printed logits is set."""
    config = ModelConfig.parse({**preset("hand-sized"), "vocab_size": 10, "head_bias": True})
    head = Head(config, torch.nn.Embedding(10, 4)).double().requires_grad_(False)
    head.linear.weight.normal_()
    head.linear.bias.normal_()
    head.linear.weight[:, 0] = exact(LOGITS) - head.linear.weight[:, 2] - head.linear.bias
    logits = head(exact([[[1, 0, 1, 0]]]))[0, 0].double()
    assert_close(logits, exact(LOGITS), atol=2e-7, rtol=0)  # scores leave a model in float32
    grown = [math.exp(logit) for logit in LOGITS]
    probabilities = ops.softmax(exact(LOGITS))
    assert_close(probabilities, exact([number / sum(grown) for number in grown]))
    # These logits say "?", with 0.61; the probabilities printed below them are of another run.
    assert WORDS[int(probabilities.argmax())] == "?"
    assert probabilities.max().item() == pytest.approx(0.6124, abs=1e-4)
    assert (probabilities - exact(PROBABILITIES)).abs().max() > 0.4


def test_the_likeliest_of_the_printed_probabilities_is_hola():
    probabilities = ops.softmax(exact(PROBABILITIES).log())  # their logarithms are logits, but for one number in common
    assert_close(probabilities, exact(PROBABILITIES), atol=1e-8, rtol=0)
    assert WORDS[int(probabilities.argmax())] == "hola"


def with_the_printed_table(**fields):
    """A model of random matrices whose embeddings, on both sides, are the printed ones; its positions are left out."""
    model = hand_sized(positions="none", **fields)
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            weight.normal_()
        if name.endswith("embedding.token.weight"):
            weight.copy_(exact(TABLE))
    return model


def test_the_words_become_the_printed_vectors():
    model = with_the_printed_table()
    with watch(model, "*.embedding.out") as seen:
        model(ids("SOS", "hola", "mundo", "world"), source=ids("hello", "world"))
    assert_close(seen["encoder.embedding.out"][0], exact([TABLE[0], TABLE[2]]))
    printed_behind_the_loop = exact(
        [
            [-0.60624082, -0.67560165, 0.77152125, 0.63472247],
            [1.07809402, -0.83846408, -0.33448976, 0.28995976],
            [-0.59563791, -0.63389256, 1.70663692, -0.99495115],
            [1.35581862, -0.0323546, 2.76696887, 0.83069982],
        ]
    )
    assert_close(seen["decoder.embedding.out"][0], printed_behind_the_loop)


@torch.no_grad()
def greedy(model, source, max_iters):
    """The article's generate: the likeliest word again and again, until it is EOS or the iterations are used up.

    The source is read once. Returns the words and the probability of each."""
    cache = model.new_cache(1, memory=model.read(source))
    words, probabilities = ["SOS"], []
    for _ in range(max_iters):
        probability = ops.softmax(model(ids(words[-1]), cache=cache)[0, -1])
        words.append(WORDS[int(probability.argmax())])
        probabilities.append(probability.max().item())
        if words[-1] == "EOS":
            break
    return words, probabilities


@pytest.mark.parametrize("seed", range(5))
def test_the_greedy_loop_of_random_matrices(seed):
    """Which words random matrices say is chance; that they are the likeliest, one after another, is not."""
    torch.manual_seed(seed)
    model, source = with_the_printed_table(), ids("hello", "world")
    words, probabilities = greedy(model, source, max_iters=3)
    assert len(words) == 4 or words[-1] == "EOS"
    for step, probability in enumerate(probabilities, start=1):
        whole = ops.softmax(model(ids(*words[:step]), source=source)[0, -1])  # the same without a cache
        assert WORDS[int(whole.argmax())] == words[step]
        assert whole.max().item() == pytest.approx(probability, abs=1e-5)
        assert 1 / len(WORDS) <= probability <= 1
    assert all(1 / len(WORDS) <= probability <= 1 for probability in LOOP.values())
    memory = model.read(source).states[0]
    for row in memory:
        assert_close(LayerNorm(4, 1e-9).double()(row).detach(), row, atol=1e-4, rtol=0)  # as of the printed encoder


def test_a_minute_of_training_turns_hello_world_into_hola_mundo():
    """The three iterations that the article wishes for: SOS to "hola", SOS hola to "mundo", SOS hola mundo to EOS; and that
    it is the source that decides."""
    config = ModelConfig.parse({**preset("hand-sized"), "vocab_size": len(WORDS)})
    model = build_model(config)
    pairs = {"hello world": "hola mundo", "hello": "hola", "world": "mundo"}
    sources = torch.cat([ids(*(text.split() + ["EOS"] * 3)[:3]) for text in pairs])
    wanted = torch.cat([ids(*(text.split() + ["EOS"] * 3)[:3]) for text in pairs.values()])
    lengths = torch.tensor([3, 2, 2])[:, None]
    at = torch.where(torch.arange(3) < lengths, torch.arange(3), -1)
    shown = torch.cat((ids("SOS").expand(3, 1), wanted[:, :-1]), dim=1)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.9, 0.98))
    for _ in range(200):
        logits = model(shown, at=at, source=sources, source_at=at)
        loss = torch.nn.functional.cross_entropy(logits[at >= 0], wanted[at >= 0])
        if loss < 0.05:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.05
    for text, translation in pairs.items():
        words, probabilities = greedy(model, ids(*text.split(), "EOS"), max_iters=8)
        assert words == ["SOS", *translation.split(), "EOS"]
        assert min(probabilities) > 0.7  # seven tokens whose mean loss is below 0.05
