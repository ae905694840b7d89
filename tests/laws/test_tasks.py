"""Laws of the tasks, over the table: what a batch is, what counts in it, and that neither padding nor portions change that."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.data import IGNORED
from glassformer.generate.translate import prompts_for, source_ids
from glassformer.models import build_model
from glassformer.tokenizers.roles import SEPARATOR, START
from glassformer.training.loop import accumulate_gradients
from glassformer.training.tasks import TASKS, Batch
from glassformer.training.tasks.embed import TEMPERATURE, Embed
from toys import TOYS, TOYS_OF_ROWS, TOYS_OF_VECTORS, prepared, toy_of

ALL = [*TOYS, *TOYS_OF_VECTORS]
ALL_OF_ROWS = [*TOYS_OF_ROWS, *TOYS_OF_VECTORS]
ROWS_BY_THEMSELVES = [name for name in ALL_OF_ROWS if name != "embed"]  # whose rows have no say in each other's loss
LABELS = ("classify", "classify_vectors")


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """Recipe and task of a toy, made once for each set of wishes and never changed by a test."""
    made: dict = {}

    def make(name: str, **more):
        key = (name, tuple(more.items()))
        if key not in made:
            made[key] = prepared(name, tmp_path_factory.mktemp("toy"), **more)
        return made[key]

    return make


def model_of(recipe, seed: int = 0):
    """A model with no weight at zero, so that no gradient is."""
    model = build_model(recipe.model, seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=draw))
    return model


def same(one: Batch, other: Batch) -> bool:
    keys, theirs = one.inputs.keys(), other.inputs.keys()
    return (
        keys == theirs
        and (one.n_targets, one.n_tokens) == (other.n_targets, other.n_tokens)
        and torch.equal(one.targets, other.targets)
        and all(torch.equal(one.inputs[key], other.inputs[key]) for key in keys)
        and one.options == other.options
    )


def test_there_is_a_toy_for_every_task():
    assert {toy_of(name).task for name in ALL} == TASKS.keys()


# Batches


@pytest.mark.parametrize("name", ALL)
def test_the_batch_of_a_step_is_a_pure_function_of_recipe_and_step(ready, tmp_path, name):
    _, task = ready(name)
    _, again = prepared(name, tmp_path)  # of another process, as it were
    steps = range(12)
    forwards = [task.batch(step) for step in steps]
    backwards = [again.batch(step) for step in reversed(steps)][::-1]
    assert all(map(same, forwards, backwards))
    _, other = ready(name, seed=1)
    assert not all(same(batch, other.batch(step)) for step, batch in enumerate(forwards))


@pytest.mark.parametrize("name", ALL)
def test_a_batch_says_how_many_targets_and_tokens_it_has(ready, name):
    _, task = ready(name)
    for step in range(5):
        batch = task.batch(step)
        rows = {len(tensor) for tensor in batch.inputs.values()}
        if toy_of(name).task == "embed":
            assert rows == {2 * len(batch.targets)}
        else:
            assert rows == {len(batch.targets)}
        assert 0 < batch.n_targets <= batch.n_tokens
        if toy_of(name).task not in (*LABELS, "embed"):
            assert batch.n_targets == (batch.targets != IGNORED).sum()
        elif toy_of(name).task in LABELS:
            assert batch.n_targets == len(batch.targets)


@pytest.mark.parametrize("name", ALL_OF_ROWS)
def test_an_epoch_shows_every_row_once(ready, name):
    _, task = ready(name)
    rows = [row for step in range(task.batches.per_epoch) for row in task.batches.batch(step)]
    assert sorted(rows) == list(range(len(task.kept["train"])))
    assert task.epoch(task.batches.per_epoch) == 1.0


# Gradients


@pytest.mark.parametrize("portions", [2, 5])
@pytest.mark.parametrize("name", [name for name in ALL if name != "embed"])
def test_a_step_in_portions_has_the_gradient_of_the_whole(ready, name, portions):
    recipe, task = ready(name)
    found = []
    for asked in (recipe, recipe.updated({"loop.grad_accum": portions})):
        model = model_of(recipe)
        loss = accumulate_gradients(model, model, task, task.batch(3), asked)
        found.append((loss, {key: weight.grad for key, weight in model.named_parameters()}))
    (whole, expected), (parts, actual) = found
    assert parts == pytest.approx(whole, rel=1e-5)
    for key, gradient in expected.items():
        assert gradient is not None, key
        torch.testing.assert_close(actual[key], gradient, rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", ROWS_BY_THEMSELVES)
def test_the_loss_of_a_batch_is_that_of_its_rows_one_by_one(ready, name):
    recipe, task = ready(name)
    model = model_of(recipe).eval()
    lengths = task.lengths("train").sum(1)
    rows = [int(lengths.argmin()), int(lengths.argmax()), 7, 8]  # so that there is padding

    def loss(rows: list[int]) -> tuple[float, int]:
        batch = task.collate("train", rows)
        return task.loss(batch.answers(model), batch).item(), batch.n_targets

    losses, counts = zip(*(loss([row]) for row in rows), strict=True)
    assert loss(rows) == (pytest.approx(sum(losses), rel=1e-5), sum(counts))


@pytest.mark.parametrize("name", ALL)
def test_an_evaluation_is_repeatable_and_leaves_the_model_as_it_was(ready, name):
    recipe, task = ready(name)
    model = model_of(recipe)
    for training in (True, False):
        model.train(training)
        first, second = task.evaluate(model, whole=True), task.evaluate(model, whole=False)
        assert task.measures_all
        assert first == second
        assert all(module.training is training for module in model.modules())
    assert first.n_tokens > 0
    assert all(0 <= value <= 100 for value in first.metrics.values())


@pytest.mark.parametrize("name", ROWS_BY_THEMSELVES)
def test_the_score_is_the_mean_over_all_targets_held_back(ready, name):
    recipe, task = ready(name)
    model = model_of(recipe).eval()
    total, count = 0.0, 0
    for row in task.kept["validation"].tolist():
        batch = task.collate("validation", [row])
        total, count = total + task.loss(batch.answers(model), batch).item(), count + batch.n_targets
    score = task.evaluate(model, whole=True)
    assert (score.n_tokens, score.loss) == (count, pytest.approx(total / count, rel=1e-5))


# Targets


@pytest.mark.parametrize("more", [{}, {"tokenizer.shared": False}], ids=["one vocabulary", "two"])
def test_a_translation_is_shown_from_its_start_and_asked_for_to_its_end(ready, more):
    _, task = ready("translate", **more)
    source, target = task.vocabularies.source, task.vocabularies.target
    rows = [0, 40, 80]
    batch = task.collate("train", rows)
    for number, row in enumerate(rows):
        pair = task.pairs["train"][row]
        read = [*source.encode(pair.source), source.eos_id]
        written = [*target.encode(pair.target), target.eos_id]
        ids, targets = batch.inputs["ids"][number].tolist(), batch.targets[number].tolist()
        assert ids[: len(written)] == [target.special_tokens[START], *written[:-1]]
        assert targets == written + [IGNORED] * (len(targets) - len(written))
        at = batch.inputs["source_at"][number].tolist()
        assert batch.inputs["source"][number].tolist()[: len(read)] == read
        assert at == [*range(len(read)), *[-1] * (len(at) - len(read))]
    assert batch.n_targets == (batch.targets != IGNORED).sum()


def test_a_decoder_is_asked_for_the_target_alone(ready):
    _, task = ready("translate by a decoder")
    tokenizer = task.vocabularies.target
    rows = [0, 40, 80]
    batch = task.collate("train", rows)
    for number, row in enumerate(rows):
        pair = task.pairs["train"][row]
        read = [*tokenizer.encode(pair.source), tokenizer.special_tokens[SEPARATOR]]
        written = [*tokenizer.encode(pair.target), tokenizer.eos_id]
        ids, targets = batch.inputs["ids"][number].tolist(), batch.targets[number].tolist()
        assert ids[: len(read) + len(written) - 1] == [*read, *written[:-1]]
        asked = [IGNORED] * (len(read) - 1) + written
        assert targets == asked + [IGNORED] * (len(targets) - len(asked))


def test_what_a_decoder_is_trained_to_go_on_from_is_what_it_is_asked_with(ready):
    recipe, task = ready("translate by a decoder")
    tokenizer = task.vocabularies.target
    pair = task.pairs["train"][5]
    model = build_model(recipe.model)
    (prompt,), memory = prompts_for(model, tokenizer, [source_ids(model, tokenizer, pair.source)])
    batch = task.collate("train", [5])
    first = int((batch.targets[0] != IGNORED).nonzero()[0])
    assert memory is None
    assert batch.inputs["ids"][0, : first + 1].tolist() == prompt


def test_one_label_is_its_number_and_several_are_marks(ready):
    _, one = ready("classify")
    batch = one.collate("train", range(20))
    names = [row.labels for row in one.rows["train"][:20]]
    assert one.labels == ["high", "low"]
    assert [(one.labels[label],) for label in batch.targets.tolist()] == names

    recipe, several = ready("classify by several")
    batch = several.collate("train", range(20))
    assert recipe.model.several_labels
    assert several.labels == ["has one", "has two"]
    marked = [tuple(several.labels[n] for n, mark in enumerate(row) if mark) for row in batch.targets.tolist()]
    assert marked == [row.labels for row in several.rows["train"][:20]]
    assert {len(labels) for labels in marked} == {0, 1, 2}


@pytest.mark.parametrize("kind", ["words", "characters", "bpe"])
def test_the_first_token_of_a_word_carries_its_tag(ready, kind):
    _, task = ready("tag", **{"tokenizer.kind": kind})
    rows = range(0, 60, 7)
    batch = task.collate("train", rows)
    for number, row in enumerate(rows):
        sentence = task.rows["train"][row]
        wanted = []
        for word, tag in zip(task.tokenizer.encode_words(sentence.tokens), sentence.tags, strict=True):
            wanted += [task.labels.index(tag), *[IGNORED] * (len(word) - 1)]
        found = batch.targets[number].tolist()
        assert found == wanted + [IGNORED] * (len(found) - len(wanted))
    assert batch.n_targets == sum(len(task.rows["train"][row].tokens) for row in rows)


# Hidden tokens

HIDDEN, MASKED, SWAPPED = 0.15, 0.8, 0.1  # Devlin et al. 2019, section 3.1


def test_shares_of_what_is_hidden_are_those_of_the_paper(ready):
    _, task = ready("fill")
    windows = torch.from_numpy(task.windows.batch(0, 2000)[:, :-1])
    shown, wanted = task.hide(windows, 7)
    asked = wanted != IGNORED
    n = int(asked.sum())

    def near(found: torch.Tensor, share: float, of: int) -> bool:
        return abs(int(found.sum()) / of - share) < 5 * math.sqrt(share * (1 - share) / of)

    # Every window is asked for equally many tokens, at least one, and every place as often as another.
    t = windows.shape[1]
    each = max(1, round(HIDDEN * t))
    assert (asked.sum(1) == each).all()
    assert all(near(column, each / t, len(windows)) for column in asked.T)
    assert torch.equal(shown[~asked], windows[~asked])
    assert torch.equal(wanted[asked], windows[asked])
    masked = shown == task.mask_id
    by_luck = 1 / len(task.ordinary)  # a random token is the one that it stands for
    kept = asked & (shown == windows)
    assert near(masked & asked, MASKED, n)
    assert near(kept, (1 - MASKED - SWAPPED) + SWAPPED * by_luck, n)
    assert near(asked & ~masked & ~kept, SWAPPED * (1 - by_luck), n)
    assert not (masked & ~asked).any()
    special = torch.tensor(sorted(task.tokenizer.special_ids - {task.mask_id}))
    assert not torch.isin(shown, special).any()


def test_other_places_are_hidden_at_every_step(ready):
    _, task = ready("fill")
    batches = [task.batch(step) for step in range(6)]
    assert all((batch.targets != IGNORED).all() for batch in batches)
    asked = [batch.inputs["asked"] for batch in batches]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(asked, 2))


@settings(max_examples=50)
@given(st.integers(0, 2**40), st.integers(1, 5), st.integers(1, 20), st.data())
def test_nothing_is_asked_of_padding_and_something_of_every_window(ready, seed, rows, width, data):
    _, task = ready("fill")
    ids = torch.randint(len(task.ordinary), (rows, width), generator=torch.Generator().manual_seed(seed))
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, width), min_size=rows, max_size=rows)))
    real = torch.arange(width)[None] < lengths[:, None]
    shown, wanted = task.hide(ids, seed, real)
    assert not ((wanted != IGNORED) & ~real).any()
    assert (wanted != IGNORED).any(1).all()
    assert torch.equal(shown[~real], ids[~real])


def test_an_evaluation_hides_the_same_each_time(ready, tmp_path):
    recipe, task = ready("fill")
    shown, wanted = task.shown.clone(), task.wanted.clone()
    task.batch(3)
    task.begin(recipe)
    _, other = prepared("fill", tmp_path)
    for again in (task, other):
        assert torch.equal(again.shown, shown)
        assert torch.equal(again.wanted, wanted)
    assert not ((wanted != IGNORED) & (task.at < 0)).any()
    assert (task.at < 0).any()  # the last window is not full


def test_what_pads_the_last_window_has_no_say(ready, monkeypatch):
    recipe, task = ready("fill")
    model = model_of(recipe)
    before = task.evaluate(model, whole=True)
    monkeypatch.setattr(task, "shown", task.shown.masked_fill(task.at < 0, 5))
    assert task.evaluate(model, whole=True).loss == pytest.approx(before.loss, rel=1e-6)


# Embeddings


def test_an_embedding_is_to_find_its_other_among_all_of_the_batch(ready):
    recipe, task = ready("embed")
    model = model_of(recipe).eval()
    batch = task.collate("train", range(6))
    vectors = model(**batch.inputs).detach().double()
    sources, targets = vectors[:6], vectors[6:]
    by_hand = 0.0
    for i in range(6):
        forth = [math.exp(float(sources[i] @ targets[j]) / TEMPERATURE) for j in range(6)]
        back = [math.exp(float(sources[j] @ targets[i]) / TEMPERATURE) for j in range(6)]
        by_hand -= (math.log(forth[i] / sum(forth)) + math.log(back[i] / sum(back))) / 2
    assert task.loss(vectors, batch).item() == pytest.approx(by_hand, rel=1e-6)
    assert batch.n_targets == 6
    for number in range(6):
        pair = task.pairs["train"][number]
        tokenizer = task.vocabularies.target
        for row, text in ((number, pair.source), (number + 6, pair.target)):
            real = batch.inputs["at"][row] >= 0
            assert tokenizer.decode(batch.inputs["ids"][row][real].tolist()) == text + "<|endoftext|>"


def test_pairs_that_share_a_side_are_no_wrong_answers_to_each_other():
    task = Embed.__new__(Embed)
    ids = torch.tensor([[1, 2], [1, 2], [3, 4], [5, 6], [7, 8], [9, 9]])  # three sources, then three targets
    batch = Batch({"ids": ids}, torch.arange(3), 3, 12)
    assert task.also_right(batch).tolist() == [[False, True, False], [True, False, False], [False, False, False]]
    answers = torch.nn.functional.normalize(torch.randn(6, 5), dim=-1)
    answers[1] = answers[0]  # the first two sources cannot be told apart, and need not be
    answers[3:] = answers[:3]
    assert task.loss(answers, batch).isfinite()
