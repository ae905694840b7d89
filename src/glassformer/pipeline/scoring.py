"""The scores that suit each task. One function for each, one row of the table at the foot."""

# N examples, V vocabulary, D model

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassformer.data import Corpus, LabelledCorpus, PairCorpus, TaggedCorpus
from glassformer.data.utterances import UtteranceCorpus
from glassformer.errors import ConfigError, DataError
from glassformer.evaluate import (
    Metric,
    bits_per_byte_score,
    bleu,
    character_errors,
    chrf,
    classification_score,
    perplexity_score,
    retrieval_score,
    tagging_score,
    word_errors,
)
from glassformer.evaluate.classification import indices, numbered, share
from glassformer.evaluate.translation import sacrebleu_metrics
from glassformer.generate import Beam, Labelling, classify, tag, translate
from glassformer.generate.fill import mask_id
from glassformer.pipeline.evaluation import Evaluation
from glassformer.pipeline.losses import (
    hidden_token_losses,
    in_tokens,
    next_token_losses,
    pieces_of,
    target_losses,
)
from glassformer.pipeline.transcribe import classify_each

if TYPE_CHECKING:
    from glassformer.pipeline.pipeline import Pipeline

COMPARED_AT_ONCE = 1024  # anchors
HEARD_AT_ONCE = 256  # utterances whose samples are in memory
MOST_NOTES = 20  # on single utterances


def score_text(pipe: Pipeline, corpus: Corpus, beam: Beam) -> Evaluation:
    """Perplexity and bits per byte, every token but the first predicted once."""
    ids, piece = in_tokens(corpus.documents, pipe.tokenizer)
    losses = next_token_losses(pipe.model, ids)
    return score_pieces("text", corpus, piece[1:], losses, ())


def score_fill(pipe: Pipeline, corpus: Corpus, beam: Beam) -> Evaluation:
    """Accuracy, and the perplexity of a token given all others but the one in seven that are hidden with it."""
    ids, piece = in_tokens(corpus.documents, pipe.tokenizer)
    losses, right = hidden_token_losses(pipe.model, ids, mask_id(pipe.tokenizer))
    n_pieces = int(piece.max()) + 1
    counts = np.stack([np.bincount(piece, each, n_pieces) for each in (right, np.ones(len(ids)))], axis=1).astype(float)
    accuracy = Metric("accuracy", counts, share, signature=f"tokens:{len(ids):,}", detail="of hidden tokens")
    return score_pieces("fill", corpus, piece, losses, (accuracy,))


def score_pieces(
    task: str, corpus: Corpus, piece: NDArray[np.int64], losses: NDArray[np.float64], more: tuple[Metric, ...]
) -> Evaluation:
    """The scores of tokens, each of which lies in a piece of text and has a loss, by pieces. [N] both."""
    pieces = list(pieces_of(corpus.documents))
    n_tokens = np.bincount(piece, minlength=len(pieces))
    nats = np.bincount(piece, losses, len(pieces))
    perplexity = perplexity_score(nats, n_tokens)
    bits_per_byte = bits_per_byte_score(nats, [one.n_bytes for one in pieces])
    rows = tuple(
        {"where": one.where, "score": float(bits), "perplexity": float(of_each), "tokens": int(count), "text": one.text}
        for one, bits, of_each, count in zip(pieces, bits_per_byte.scores, perplexity.scores, n_tokens, strict=True)
    )
    return Evaluation(
        task,
        "pieces of text",
        (*more, perplexity, bits_per_byte),
        rows,
        higher_is_better=False,  # bits per byte
        notes=corpus.notes,
    )


def score_translations(pipe: Pipeline, corpus: PairCorpus, beam: Beam) -> Evaluation:
    """BLEU and chrF of what the search finds, and the perplexity and bits per byte of the references."""
    sacrebleu_metrics()  # before an hour of translating rather than after it
    sources, targets = [pair.source for pair in corpus.pairs], [pair.target for pair in corpus.pairs]
    readable(pipe, "translate", zip(sources, (pair.where for pair in corpus.pairs), strict=True))
    nats, n_tokens, n_cut = target_losses(pipe.model, pipe.reader, pipe.tokenizer, corpus.pairs)
    found = [one.text for one in translate(pipe.model, pipe.reader, pipe.tokenizer, sources, beam=beam)]
    corpus_bleu, corpus_chrf = bleu(found, targets), chrf(found, targets)
    rows = tuple(
        {
            "where": pair.where,
            "score": float(chrf_of_one),
            "bleu": float(bleu_of_one),
            "loss": float(loss / count),
            "source": pair.source,
            "said": said,
            "wanted": pair.target,
        }
        for pair, said, chrf_of_one, bleu_of_one, loss, count in zip(
            corpus.pairs, found, corpus_chrf.scores, corpus_bleu.scores, nats, n_tokens, strict=True
        )
    )
    n_bytes = [len(target.encode()) for target in targets]
    metrics = (corpus_bleu, corpus_chrf, perplexity_score(nats, n_tokens), bits_per_byte_score(nats, n_bytes))
    max_len = pipe.model.config.max_len
    cut = f"targets longer than the {max_len:,} tokens that the model can write, of which the loss counts the first"
    notes = (*corpus.notes, f"{n_cut:,} {cut}") if n_cut else corpus.notes
    return Evaluation("translate", "pairs", metrics, rows, notes=notes)


def score_labels(pipe: Pipeline, corpus: LabelledCorpus, beam: Beam) -> Evaluation:
    """Accuracy, F1 and confusion. An example's own score is the probability of what is right."""
    labels, several = pipe.model.config.labels, pipe.model.config.several_labels
    known = numbered(labels)
    for row in corpus.rows:
        indices(row.labels, known, row.where)
        if len(row.labels) != 1 and not several:
            raise DataError(f"{row.where}: {len(row.labels)} labels, and the model gives each text one; leave it out")
    readable(pipe, "classify", ((row.text, row.where) for row in corpus.rows))
    found = classify(pipe.model, pipe.tokenizer, [row.text for row in corpus.rows])
    about = [{"where": row.where, "text": row.text} for row in corpus.rows]
    return judged("classify", "texts", pipe, found, [row.labels for row in corpus.rows], about, corpus.notes)


def score_spoken_labels(pipe: Pipeline, corpus: UtteranceCorpus, beam: Beam) -> Evaluation:
    """The same of sound, or of other vectors, each with one label."""
    known = numbered(pipe.model.config.labels)
    for row in corpus.rows:
        indices([row.text], known, row.where)
    found = [
        one
        for start in range(0, len(corpus.rows), HEARD_AT_ONCE)
        for one in classify_each(pipe, corpus.rows[start : start + HEARD_AT_ONCE])
    ]
    about = [{"where": row.where, "path": str(row.path)} for row in corpus.rows]
    wanted = [(row.text,) for row in corpus.rows]
    return judged("classify_vectors", "utterances", pipe, found, wanted, about, corpus.notes)


def judged(
    task: str,
    unit: str,
    pipe: Pipeline,
    found: Sequence[Labelling],
    wanted: Sequence[Sequence[str]],
    about: Sequence[dict[str, Any]],
    notes: tuple[str, ...],
) -> Evaluation:
    """The evaluation of labels; `about`: what is told of each example, where it stands among it."""
    labels, several = pipe.model.config.labels, pipe.model.config.several_labels
    where = [one["where"] for one in about]
    scores = classification_score([one.labels for one in found], wanted, labels, where)
    rows = tuple(
        {
            "where": told["where"],
            "score": float(np.mean([p if name in right else 1 - p for name, p in one.probabilities.items()]))
            if several
            else one.probabilities[right[0]],
            "said": list(one.labels) if several else one.labels[0],
            "wanted": list(right) if several else right[0],
            **told,
        }
        for told, right, one in zip(about, wanted, found, strict=True)
    )
    return Evaluation(task, unit, scores.metrics, rows, classes=scores, notes=notes)


def score_transcripts(pipe: Pipeline, corpus: UtteranceCorpus, settings: Mapping[str, Any]) -> Evaluation:
    """Word and character errors. An utterance's own score is its word error rate, so that the worst come first."""
    heard = pipe.transcribe_many(corpus.rows, **settings)
    found, wanted = [one.text for one in heard], [row.text for row in corpus.rows]
    words, characters, bare = (
        word_errors(found, wanted),
        character_errors(found, wanted),
        word_errors(found, wanted, bare=True),
    )
    rows = tuple(
        {
            "where": row.where,
            "score": float(word_rate),
            "cer": float(character_rate),
            "seconds": None if pipe.features is None or pipe.features.kind == "vectors" else one.duration,
            "said": one.text,
            "wanted": row.text,
            "path": str(row.path),
        }
        for row, one, word_rate, character_rate in zip(corpus.rows, heard, words.scores, characters.scores, strict=True)
    )
    differs = not np.array_equal(words.statistics, bare.statistics)
    metrics = (words, characters, bare) if differs else (words, characters)
    said = [f"{row.where}: {note}" for row, one in zip(corpus.rows, heard, strict=True) for note in one.notes]
    more = [f"{len(said) - MOST_NOTES:,} more notes of this kind"] if len(said) > MOST_NOTES else []
    notes = (*corpus.notes, *said[:MOST_NOTES], *more)
    return Evaluation("transcribe", "utterances", metrics, rows, higher_is_better=False, notes=notes)


def score_tags(pipe: Pipeline, corpus: TaggedCorpus, beam: Beam) -> Evaluation:
    """The same of each word. A sentence's own score is the mean probability of the right tags."""
    known = numbered(pipe.model.config.labels)
    for row in corpus.rows:
        indices(row.tags, known, row.where)
    sentences = [row.tokens for row in corpus.rows]
    readable(pipe, "classify", ((" ".join(row.tokens), row.where) for row in corpus.rows))
    found = tag(pipe.model, pipe.tokenizer, sentences)
    scores = tagging_score(
        [one.tags for one in found],
        [row.tags for row in corpus.rows],
        pipe.model.config.labels,
        [row.where for row in corpus.rows],
    )
    rows = tuple(
        {
            "where": row.where,
            "score": float(np.mean([p[name] for p, name in zip(one.probabilities, row.tags, strict=True)])),
            "words": list(row.tokens),
            "said": list(one.tags),
            "wanted": list(row.tags),
        }
        for row, one in zip(corpus.rows, found, strict=True)
    )
    return Evaluation("tag", "sentences", scores.metrics, rows, classes=scores, notes=corpus.notes)


def score_embeddings(pipe: Pipeline, corpus: PairCorpus, beam: Beam) -> Evaluation:
    """Recall and mean reciprocal rank of the target of each source among all targets."""
    pairs = corpus.pairs
    readable(pipe, "embed", ((text, pair.where) for pair in pairs for text in (pair.source, pair.target)))
    sources, targets = (
        pipe.embed(texts) for texts in ([pair.source for pair in pairs], [pair.target for pair in pairs])
    )
    scores = retrieval_score(sources, targets)
    rows = tuple(
        {
            "where": pair.where,
            "score": 1 / float(rank),
            "rank": float(rank),
            "source": pair.source,
            "said": pairs[best].target,
            "wanted": pair.target,
        }
        for pair, rank, best in zip(pairs, scores.ranks, nearest_of_each(sources, targets), strict=True)
    )
    return Evaluation("embed", "pairs", scores.metrics, rows, notes=corpus.notes)


def nearest_of_each(sources: NDArray[np.float32], targets: NDArray[np.float32]) -> Iterator[int]:
    """Which target is nearest to each source. N D both."""
    for start in range(0, len(sources), COMPARED_AT_ONCE):
        yield from (sources[start : start + COMPARED_AT_ONCE] @ targets.T).argmax(axis=1).tolist()


def readable(pipe: Pipeline, verb: str, texts: Iterable[tuple[str, str]]) -> None:
    """Raise DataError, naming file and line, for the first text that the model cannot read."""
    for text, where in texts:
        try:
            pipe.check(verb, text)
        except ConfigError as error:
            raise DataError(f"{where}: {error}") from None


SCORERS: dict[str, Callable[[Pipeline, Any, Any], Evaluation]] = {
    "text": score_text,
    "fill": score_fill,
    "translate": score_translations,
    "classify": score_labels,
    "tag": score_tags,
    "embed": score_embeddings,
    "transcribe": score_transcripts,
    "classify_vectors": score_spoken_labels,
}
