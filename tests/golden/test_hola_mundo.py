"""The hand-sized transformer of the walk-through: vectors of 4, two heads of 3, six layers a side, and it learns to translate."""

from __future__ import annotations

from glassformer import train

PAIRS = {
    "hello world": "hola mundo",
    "good morning": "buenos días",
    "good night": "buenas noches",
    "thank you": "gracias",
    "hello": "hola",
}
SETTINGS = {
    "task": "translate",
    "preset": "hand-sized",
    "tokenizer.kind": "words",
    "optimiser.name": "adamw",
    "optimiser.lr": 0.005,
    "loop.steps": 400,
    "loop.eval_every": 400,
    "loop.sample_every": 400,
    "loop.threads": 1,
}


def test_hello_world_becomes_hola_mundo_in_vectors_of_four(tmp_path):
    (tmp_path / "pairs.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS.items()))
    (tmp_path / "held_back.tsv").write_text("the world\tel mundo\n")
    pipe = train(
        tmp_path / "pairs.tsv", tmp_path / "run", **SETTINGS, **{"data.validation": str(tmp_path / "held_back.tsv")}
    )
    config = pipe.model.config
    assert (config.d_model, config.n_heads, config.d_head, config.d_ff, config.n_layers) == (4, 2, 3, 8, 6)
    assert pipe.translate("hello world", num_beams=1) == "hola mundo"
    assert [pipe.translate(source, num_beams=1) for source in PAIRS] == [*PAIRS.values()]
