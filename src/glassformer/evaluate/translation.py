"""BLEU and chrF of translations, by sacrebleu, with the counts of every sentence kept for resampling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassformer.errors import DataError, GlassformerError
from glassformer.evaluate.metric import Formula, Metric, check_same_examples

References = Sequence[str | Sequence[str]]  # of each sentence one translation that is right, or several


def bleu(hypotheses: Sequence[str], references: References) -> Metric:
    """Corpus BLEU, 0 to 100, as sacrebleu has it: 13a tokens, case kept, exponential smoothing (Papineni et al. 2002, Post 2018).

    The score of one sentence leaves out the orders of n-grams that the sentence is too short for. Raises DataError for
    unequal or empty lists, GlassformerError where sacrebleu is not installed.
    """
    metrics = sacrebleu_metrics()
    corpus, sentence = metrics.BLEU(force=True), metrics.BLEU(force=True, effective_order=True)
    statistics = counts(corpus, hypotheses, references)
    whole = corpus._compute_score_from_stats(integers(statistics.sum(axis=0)))
    return Metric(
        "BLEU",
        statistics,
        formula_of(corpus),
        formula_of(sentence),
        signature=str(corpus.get_signature()),
        detail=f"{whole.prec_str}, brevity penalty {whole.bp:.3f}, {whole.sys_len:,} words for {whole.ref_len:,}",
    )


def chrf(hypotheses: Sequence[str], references: References) -> Metric:
    """Corpus chrF2, 0 to 100, as sacrebleu has it: characters, n-grams up to 6, recall counts double (Popović 2015).

    Raises as `bleu` does.
    """
    scorer = sacrebleu_metrics().CHRF()
    statistics = counts(scorer, hypotheses, references)
    return Metric("chrF", statistics, formula_of(scorer), signature=str(scorer.get_signature()))


# sacrebleu's own significance tests stand on the two underscored methods below; the parity tests hold us to its scores.


def counts(scorer: Any, hypotheses: Sequence[str], references: References) -> NDArray[np.float64]:
    """What sacrebleu counts of each sentence, [N, k], all whole numbers."""
    check_same_examples(hypotheses, references, "translations")
    rights = [[right] if isinstance(right, str) else list(right) for right in references]
    if [] in rights:
        raise DataError(f"example {rights.index([]) + 1:,} has no reference; give at least one")
    return np.array(scorer._extract_corpus_statistics(hypotheses, list(zip_longest(*rights))), np.float64)


def formula_of(scorer: Any) -> Formula:
    """The scorer as a function of summed counts."""
    return lambda summed: scorer._compute_score_from_stats(integers(summed)).score


def integers(summed: NDArray[np.float64]) -> list[int]:
    """Counts as sacrebleu sums them, so that its arithmetic is the same to the last bit."""
    return summed.astype(np.int64).tolist()


def sacrebleu_metrics() -> Any:
    """sacrebleu's classes, imported when the first translation is scored."""
    try:
        import sacrebleu.metrics
    except ImportError:
        raise GlassformerError("scoring translations needs sacrebleu: pip install 'glassformer[eval]'") from None
    return sacrebleu.metrics
