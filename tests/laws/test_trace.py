"""Laws of the glass box: taps cost nothing, change nothing unless asked to, and show every tensor under one name."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.testing import assert_close

from glassformer import trace
from glassformer.errors import ConfigError
from glassformer.models import PRESETS, preset
from glassformer.models import heads as heads_module
from glassformer.models import stack as stack_module
from glassformer.models import vectors as vectors_module
from glassformer.nn import attention as attention_module
from glassformer.nn import block as block_module
from glassformer.nn import mlp as mlp_module
from glassformer.nn import norms as norms_module
from glassformer.nn.attention import Attention
from glassformer.nn.block import BLOCKS
from glassformer.nn.mlp import MLPS
from glassformer.nn.norms import NORMS
from glassformer.nn.positions import POSITIONS
from glassformer.trace import points_of, tap, watch
from shapes import KINDS, PUBLISHED, call, sources

TAPPED = (
    attention_module,
    block_module,
    heads_module,
    mlp_module,
    norms_module,
    stack_module,
    vectors_module,
)
SHRUNK = {"vocab_size": 29, "d_model": 16, "n_layers": 2, "n_heads": 2, "max_len": 16, "d_ff": 24}
READABLE = {
    "scores",
    "mask_rule",
    "masked",
    "pattern",
    "mean",
    "std",
    "rms",
}  # points that the fused kernels do not have
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
EVERY_CHOICE = [
    *({"positions": scheme} for scheme in POSITIONS),
    *({"norm": norm} for norm in NORMS),
    *({"norm_place": place} for place in BLOCKS),
    *({"mlp": mlp} for mlp in MLPS),
    {"n_kv_heads": 1},
    {"window": 3},
    {"bigram": 50},
    {"norm": "rmsnorm", "norm_bias": True},
    {"attention_softcap": 3.0, "logit_softcap": 4.0},
    *(fields for fields in PUBLISHED.values() if "shape" not in fields),
]


def shrunk(name):
    """A preset, small enough to run in a millisecond."""
    values = {**preset(name), **SHRUNK}
    for field, size in {"n_kv_heads": 1, "bigram": 64}.items():
        if field in values:
            values[field] = size
    return values


@pytest.fixture
def ids():
    return torch.randint(23, (2, 7))


@pytest.fixture
def graphs():
    """A compiler backend that keeps every graph it is given and runs it as it is."""
    torch._dynamo.reset()
    caught = []

    def keep(graph, example_inputs):
        caught.append([(node.op, str(node.target), str(node.args), str(node.kwargs)) for node in graph.graph.nodes])
        return graph

    keep.caught = caught
    yield keep
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"positions": "alibi", "window": 3},
        {"norm": "layernorm", "norm_place": "post", "positions": "learned"},
        *(KINDS[kind] for kind in ("encoder", "labels", "tags", "pooled", "encoder-decoder")),
    ],
    ids=str,
)
def test_the_compiled_graph_with_taps_equals_the_graph_without_node_for_node(
    random_model, graphs, ids, monkeypatch, fields
):
    model = random_model(**fields)
    given = {"source": sources(model, 2)} if model.config.shape == "encoder_decoder" else {}
    torch.compile(model, backend=graphs, fullgraph=True)(ids, **given)
    for module in TAPPED:
        monkeypatch.setattr(module, "tap", lambda owner, point, value: value)
        if hasattr(module, "watched"):
            monkeypatch.setattr(module, "watched", lambda owner, *points: False)
    torch._dynamo.reset()
    torch.compile(model, backend=graphs, fullgraph=True)(ids, **given)
    tapped, bare = graphs.caught
    assert tapped == bare
    assert len(bare) > 40


def test_every_module_that_taps_is_in_the_list_of_those_stripped_above():
    import sys

    tapping = {
        module for name, module in sys.modules.items() if name.startswith("glassformer.") and vars(module).get("tap")
    }
    assert tapping - {trace} >= set(TAPPED)
    of_the_model = {m for m in tapping if m.__name__.startswith(("glassformer.nn", "glassformer.models"))}
    assert of_the_model == set(TAPPED)


def test_watching_a_compiled_model_causes_no_recompilation(random_model, graphs, ids):
    model = random_model()
    compiled = torch.compile(model, backend=graphs, fullgraph=True)
    torch._dynamo.utils.counters.clear()
    before = compiled(ids)
    for points in ("*", "*.z"):
        with watch(compiled, points) as seen:
            compiled(ids)
        assert len(seen) == len([name for name in points_of(model) if points == "*" or name.endswith(".z")])
    with watch(model, edit={"head.logits": torch.zeros_like}):
        assert compiled(ids).abs().max() == 0
    assert torch.equal(compiled(ids), before)
    assert len(graphs.caught) == 1
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["recompiles"]


def test_names_see_through_compiled_modules_at_any_depth(random_model, graphs, ids):
    model = random_model()
    names = points_of(model)
    assert points_of(torch.compile(model, backend=graphs)) == names
    for index, block in enumerate(model.decoder.blocks):
        model.decoder.blocks[index] = torch.compile(block, backend=graphs)
    assert points_of(model) == names
    with watch(model) as seen:
        model(ids)
    assert set(seen) == set(names)


@pytest.mark.parametrize("fields", [*EVERY_CHOICE, *KINDS.values()], ids=str)
def test_watching_changes_nothing_but_rounding_and_where_no_kernel_gives_way_nothing_at_all(random_model, ids, fields):
    model = random_model(**fields)
    unwatched = call(model, ids)
    names = points_of(model)
    with watch(model) as seen:
        assert_close(call(model, ids), unwatched, **TOLERANCE)
    assert set(seen) == set(names)
    fused = (".q_norm.out", ".k_norm.out")  # what one kernel makes of norm and turn together
    with watch(model, [name for name in names if name.split(".")[-1] not in READABLE and not name.endswith(fused)]):
        assert torch.equal(call(model, ids), unwatched)
    assert torch.equal(call(model, ids), unwatched)


def test_watching_the_pattern_of_a_model_that_is_read_in_steps_anyway_changes_nothing(random_model, ids):
    model = random_model(attention_softcap=3.0)
    unwatched = model(ids)
    with watch(model, ["*.scores", "*.mask_rule", "*.masked", "*.pattern", "*.z"]):
        assert torch.equal(model(ids), unwatched)


@pytest.mark.parametrize("name", PRESETS)
def test_every_point_of_every_preset_is_seen_once_and_nothing_else(random_model, name):
    model = random_model(**shrunk(name))
    told = []
    show = trace.Watcher.show

    def listen(self, owner, point, value):
        told.append(self.name(owner, point))
        return show(self, owner, point, value)

    with watch(model) as seen, pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace.Watcher, "show", listen)
        call(model, torch.randint(29, (2, 7)))
    names = points_of(model)
    assert sorted(told) == sorted(names) == sorted(seen)
    assert len(set(names)) == len(names)
    assert all(len(seen.calls(name)) == 1 for name in seen)


def test_what_is_seen_is_what_the_formulas_say(random_model, ids):
    model = random_model(positions="none", qk_norm=False)
    with watch(model) as seen:
        logits = model(ids)
    weights = dict(model.named_parameters())
    assert torch.equal(seen["head.logits"], logits)
    assert_close(seen["decoder.embedding.out"], weights["decoder.embedding.token.weight"][ids])
    for layer in range(2):
        at = f"decoder.blocks.{layer}"
        q, k, v, z = (seen[f"{at}.attention.{point}"] for point in "qkvz")
        x = seen[f"{at}.attention_norm.out"]
        assert_close(q.transpose(1, 2).flatten(2), x @ weights[f"{at}.attention.q_proj.weight"].T, **TOLERANCE)
        assert_close(seen[f"{at}.attention.scores"], q @ k.mT / 6**0.5, **TOLERANCE)
        hidden = torch.ones(7, 7).triu(1).bool()
        assert_close(seen[f"{at}.attention.masked"], seen[f"{at}.attention.scores"].masked_fill(hidden, -torch.inf))
        assert torch.equal(seen[f"{at}.attention.mask_rule"], 2 * hidden.long()[None, None])
        pattern = seen[f"{at}.attention.pattern"]
        assert_close(pattern, seen[f"{at}.attention.masked"].softmax(-1))
        assert_close(pattern.sum(-1), torch.ones(2, 4, 7))
        assert_close(z, pattern @ v, **TOLERANCE)
        pre, mid, post = (seen[f"{at}.resid_{point}"] for point in ("pre", "mid", "post"))
        assert_close(mid, pre + seen[f"{at}.attention.out"], **TOLERANCE)
        assert_close(post, mid + seen[f"{at}.mlp.out"], **TOLERANCE)
        assert_close(seen[f"{at}.mlp.act"], torch.nn.functional.silu(seen[f"{at}.mlp.gate"]) * seen[f"{at}.mlp.up"])
    final = seen["decoder.blocks.1.resid_post"]
    rms = (final.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    assert_close(seen["decoder.norm.rms"], rms)
    assert_close(seen["decoder.norm.out"], final / rms * weights["decoder.norm.weight"], **TOLERANCE)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_editing_one_head_to_zero_equals_zeroing_its_weights(random_model, ids, kv_heads):
    model = random_model(n_kv_heads=kv_heads)

    def silence(z):
        return torch.cat((z[:, :2], torch.zeros_like(z[:, 2:3]), z[:, 3:]), dim=1)

    with watch(model, "head.logits", edit={"decoder.blocks.1.attention.z": silence}) as seen:
        edited = model(ids)
    assert torch.equal(seen["head.logits"], edited)
    model.decoder.blocks[1].attention.o_proj.weight[:, 2 * 5 : 3 * 5] = 0
    assert_close(edited, model(ids), **TOLERANCE)


def test_an_edited_pattern_is_what_the_values_are_weighed_by(random_model, ids):
    model = random_model(n_layers=1)

    def look_at_the_first(pattern):
        first = torch.zeros_like(pattern)
        first[..., 0] = 1
        return first

    with watch(model, "*.[vz]", edit={"*.attention.pattern": look_at_the_first}) as seen:
        model(ids)
    v, z = seen["decoder.blocks.0.attention.v"], seen["decoder.blocks.0.attention.z"]
    assert_close(z, v[:, :, :1].expand_as(z))


@pytest.mark.parametrize("point", ["mean", "std"])
def test_an_edited_step_of_a_norm_is_what_the_norm_goes_on_with(random_model, ids, point):
    model = random_model(norm="layernorm", norm_bias=True)
    with watch(model, "*.norm.out", edit={f"decoder.norm.{point}": lambda value: value * 0 + 2}) as seen:
        model(ids)
    edited = seen["decoder.norm.out"]
    with watch(model, ["decoder.blocks.1.resid_post", "decoder.norm.*"]) as seen:
        model(ids)
    mean, std = (2.0 if name == point else seen[f"decoder.norm.{name}"] for name in ("mean", "std"))
    norm = model.decoder.norm
    assert_close(edited, (seen["decoder.blocks.1.resid_post"] - mean) / std * norm.weight + norm.bias, **TOLERANCE)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"norm": "layernorm", "mlp": "gelu"},
        {"bigram": 50, "positions": "learned"},
        *(KINDS[kind] for kind in ("encoder", "labels", "tags", "pooled")),
        # How long a vector is before a look at the source matters only where the queries made of it are not normalised.
        *({**KINDS[kind], "qk_norm": False} for kind in ("encoder-decoder", "another encoder")),
    ],
    ids=str,
)
def test_every_point_can_be_edited_and_the_edit_is_heard_downstream(random_model, ids, fields):
    model = random_model(**fields)
    unwatched = call(model, ids)
    for name in points_of(model):
        if name.endswith("mask_rule"):
            continue
        with watch(model, name) as before:
            call(model, ids)
        other = before[name] + torch.rand(before[name].shape)
        with watch(model, name, edit={name: lambda value, other=other: other}) as seen:
            edited = call(model, ids)
        assert torch.equal(seen[name], other), name
        assert (edited - unwatched).abs().max() > 1e-4, name


def test_an_edited_mask_rule_hides_and_shows(random_model, ids):
    model = random_model(n_layers=1)
    with watch(model, "*.pattern", edit={"*.mask_rule": torch.zeros_like}) as seen:
        model(ids)
    assert (seen["decoder.blocks.0.attention.pattern"] > 0).all()


def test_edits_of_another_shape_are_refused_with_the_name(random_model, ids):
    model = random_model()
    with (
        pytest.raises(ConfigError, match=r"edit of decoder\.blocks\.0\.mlp\.act: expected shape \(2, 7, 28\)"),
        watch(model, edit={"decoder.blocks.0.mlp.act": lambda value: value[:1]}),
    ):
        model(ids)


@pytest.mark.parametrize(("points", "edit"), [("decoder.blocks.0.attention.patern", {}), ("*", {"*.mlp.acts": abs})])
def test_a_name_that_matches_nothing_is_an_error_with_the_nearest_one(random_model, points, edit):
    wrong = points if points != "*" else "*.mlp.acts"
    with pytest.raises(ConfigError) as error, watch(random_model(), points, edit):
        pass
    assert repr(wrong) in str(error.value)
    assert "pattern" in str(error.value) if points != "*" else "known: decoder" in str(error.value)


def test_a_point_that_was_not_asked_for_is_an_error_with_the_nearest_one(random_model, ids):
    model = random_model()
    with watch(model, "*.mlp.act") as seen:
        model(ids)
    assert list(seen) == ["decoder.blocks.0.mlp.act", "decoder.blocks.1.mlp.act"]
    assert "decoder.blocks.0.mlp.act" in seen
    assert "head.logits" not in seen
    with pytest.raises(KeyError, match=r"decoder\.blocks\.0\.mlp\.act"):
        seen["decoder.blocks.0.mlp.axt"]


def test_calls_are_kept_in_order_and_the_last_is_the_value(random_model, ids):
    model = random_model()
    with watch(model, "head.logits") as seen:
        runs = [model(ids[:, :length]) for length in (2, 5, 3)]
    assert [call.shape[1] for call in seen.calls("head.logits")] == [2, 5, 3]
    assert seen["head.logits"] is runs[-1]


def test_only_the_watched_model_is_seen(random_model, ids):
    model, other = random_model(0), random_model(1)
    with watch(model, edit={"head.logits": torch.zeros_like}) as seen:
        assert other(ids).abs().max() > 0
    assert len(seen) == 0


def test_a_watch_inside_a_watch_is_refused_and_the_outer_one_goes_on(random_model, ids):
    model = random_model()
    with watch(model, "head.logits") as seen:
        with pytest.raises(ConfigError, match="already running in this thread"), watch(model):
            pass
        model(ids)
    assert len(seen) == 1


def test_after_an_exception_nobody_watches_and_compilation_is_back(random_model, graphs, ids):
    model = random_model()
    with pytest.raises(RuntimeError, match="from inside"), watch(model):
        raise RuntimeError("from inside")

    def fail(value):
        raise ArithmeticError("from the edit")

    with pytest.raises(ArithmeticError), watch(model, edit={"*.q": fail}):
        model(ids)
    assert trace._watcher is None
    torch.compile(model, backend=graphs)(ids)
    assert len(graphs.caught) == 1, "the compiler is still switched off"
    with watch(model, "*.q") as seen:
        model(ids)
    assert len(seen) == 2


def test_threads_take_turns_and_each_sees_its_own_run(random_model):
    model = random_model()
    texts = [torch.full((1, 1 + number), number) for number in range(6)]
    alone = [model(text) for text in texts]
    seen_by, logits_of, inside, most_inside = {}, {}, [], []
    start = threading.Barrier(len(texts))

    def run(number):
        start.wait()
        for _ in range(5):
            free = model(texts[number])  # unwatched, while others watch the same model
            with watch(model, "head.logits") as seen:
                inside.append(number)
                most_inside.append(len(inside))
                watched = model(texts[number])
                inside.remove(number)
            seen_by.setdefault(number, []).extend(seen.calls("head.logits"))
            logits_of.setdefault(number, []).extend((free, watched))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most_inside) == 1
    for number, expected in enumerate(alone):
        assert len(seen_by[number]) == 5
        assert all(torch.equal(value, expected) for value in seen_by[number])
        assert all(torch.equal(value, expected) for value in logits_of[number])


def test_another_thread_running_the_watched_model_is_neither_seen_nor_edited(random_model, ids):
    model = random_model()
    unwatched, others = model(ids), []
    with watch(model, "head.logits", edit={"*.z": torch.zeros_like}) as seen:
        thread = threading.Thread(target=lambda: others.append(model(ids)))
        thread.start()
        thread.join()
        assert len(seen) == 0
        model(ids)
    assert torch.equal(others[0], unwatched)
    assert not torch.equal(seen["head.logits"], unwatched)


def test_gradients_flow_through_watched_tensors(random_model, ids):
    model = random_model().requires_grad_(True)
    with watch(model, "*.pattern") as seen:
        loss = model(ids).square().mean()
    patterns = [seen[name] for name in seen]
    gradients = torch.autograd.grad(loss, patterns)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_watching_leaves_no_trace_in_the_weights_file(random_model, ids):
    model = random_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with watch(model):
        model(ids)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_watching_while_decoding_shows_each_step(random_model, ids):
    model = random_model(window=4)
    cache = model.new_cache(2)
    with watch(model, ["*.0.attention.pattern", "*.0.attention.mask_rule"]) as seen:
        for token in ids.split(1, dim=1):
            model(token, cache=cache)
    widths = [pattern.shape[-1] for pattern in seen.calls("decoder.blocks.0.attention.pattern")]
    assert widths == [1, 2, 3, 4, 4, 4, 4]


def test_a_module_may_be_watched_on_its_own():
    module = torch.nn.Module()
    module.points = ("twice",)
    with watch(module, "twice", edit={"twice": lambda value: value * 2}) as seen:
        assert tap(module, "twice", torch.tensor(3.0)) == 6
    assert seen["twice"] == 6
    assert tap(module, "twice", torch.tensor(3.0)) == 3
    assert Attention.points[0] == "q_linear"
