"""Which columns of a table hold what, when nobody named them: by the names that people give them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from glassformer.data.json_values import listed, unfit_as_text
from glassformer.data.readers import is_column_number
from glassformer.data.tables import IsHeader, Row, Table
from glassformer.errors import DataError

PairNames = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]  # names of the source, names of its target
TRANSLATION_NAMES: PairNames = ((("source", "src"), ("target", "tgt")), (("text",), ("translation",)))
ALIKE_NAMES: PairNames = ((("anchor",), ("positive",)), (("sentence1",), ("sentence2",)))  # of like meaning
PAIR_NAMES: PairNames = (*TRANSLATION_NAMES, *ALIKE_NAMES)
TEXT_NAMES = ("text", "sentence", "review", "content")
LABEL_NAMES = ("label", "labels", "class", "category", "sentiment")
TOKENS_NAMES = ("tokens", "words")
TAGS_NAMES = ("tags", "ner_tags", "pos_tags", "labels")
# ISO 639-1, then the codes of three letters and the English names of the languages that are met most often.
LANGUAGE_NAMES = """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en
    eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv
    ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne
    ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss
    st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
    ara bul cat ces cmn dan deu ell eng est eus fas fin fra ger heb hin hun ind ita jpn kor lat lav lit nld nor pol
    por ron rus slk slv spa srp swe tha tur ukr vie zho
    arabic bulgarian catalan chinese croatian czech danish dutch english estonian finnish french german greek hebrew
    hindi hungarian indonesian italian japanese korean latin latvian lithuanian norwegian persian polish portuguese
    romanian russian serbian slovak slovenian spanish swedish thai turkish ukrainian vietnamese
"""
LANGUAGES = frozenset(LANGUAGE_NAMES.split())
FEWEST_TO_JUDGE = 20  # rows; of fewer it cannot be said that a column holds too many different labels
ALSO_COUNTERS = ("id", "no")  # Indonesian and Norwegian, but more often the number of a row


def is_language(name: str) -> bool:
    """Whether a name is the code or the English name of a language, with or without a region: ``de``, ``pt_BR``."""
    return name.strip().casefold().replace("_", "-").partition("-")[0] in LANGUAGES


def named(names: Sequence[str], known: Collection[str]) -> str | None:
    """The first of `names` that is known, whatever its case."""
    return next((name for name in names if name.strip().casefold() in known), None)


def pair_columns(names: Sequence[str]) -> tuple[str, str] | None:
    """The columns of source and target by their names; two languages in the order in which they stand."""
    for source_names, target_names in PAIR_NAMES:
        source, target = named(names, source_names), named(names, target_names)
        if source is not None and target is not None:
            return source, target
    languages = [name for name in names if is_language(name)]
    if len(languages) > 2:
        languages = [name for name in languages if name.casefold() not in ALSO_COUNTERS]
    return (languages[0], languages[1]) if len(languages) == 2 else None


def heads(keys: Sequence[str | None], known: IsHeader) -> IsHeader:
    """The judge of a first row: what the user named decides (a number means no header), else what is `known`."""

    def is_header(cells: Sequence[str]) -> bool:
        given = [key for key in keys if key is not None]
        names = [key for key in given if key in cells or not key.isdecimal()]
        return any(not is_column_number(key, cells) for key in names) if given else known(cells)

    return is_header


def columns_of_pairs(table: Table, name: str, source_key: str | None, target_key: str | None) -> tuple[str, str]:
    """The columns of source and target. Raises DataError listing the columns and naming the flags."""
    advice = "name them with --source-key and --target-key"
    for key, flag in ((source_key, "--source-key"), (target_key, "--target-key")):
        if key is not None and key not in table.names:
            raise DataError(f"{name}: no column {key!r}, found {listed(table.names)}; choose one with {flag}")
    if source_key is not None and target_key is not None:
        return source_key, target_key
    columns = pair_columns(table.names) if table.has_header else first_text_columns(table)
    if source_key is None and target_key is None and columns is not None:
        return columns
    given = target_key if source_key is None else source_key
    others = [column for column in table.names if column != given]
    if given is not None and columns is not None:
        others = [column for column in columns if column != given][:1] if given in columns else []
    if given is None or len(others) != 1:
        known = "known as source and target" if table.has_header else "of text, and no header"
        raise DataError(f"{name}: no two columns {known}, found {listed(table.names)}; {advice}")
    return (others[0], given) if source_key is None else (given, others[0])


def is_labelled(names: Sequence[str]) -> bool:
    """Whether a first row is the header of a table with labels."""
    return named(names, TEXT_NAMES) is not None or named(names, LABEL_NAMES) is not None


def columns_of_labels(table: Table, name: str, text_key: str | None, label_key: str | None) -> tuple[str, str]:
    """The columns of text and label. Raises DataError listing the columns and naming the flags."""
    for key, flag in ((text_key, "--text-key"), (label_key, "--label-key")):
        if key is not None and key not in table.names:
            raise DataError(f"{name}: no column {key!r}, found {listed(table.names)}; choose one with {flag}")
    text, label = text_key, label_key
    if table.has_header:
        text = text or named([column for column in table.names if column != label], TEXT_NAMES)
        label = label or named([column for column in table.names if column != text], LABEL_NAMES)
        if len(table.names) == 2 and (text is None) != (label is None):
            other = next(column for column in table.names if column not in (text, label))
            text, label = text or other, label or other
    else:
        label = label or label_like_column(table, without=text)
        text = text or longest_column(table, without=label)
    if text is None or label is None:
        missing = "text" if text is None else "label"
        raise DataError(
            f"{name}: no column known as the {missing}, found {listed(table.names)}; name it with --{missing}-key"
        )
    return text, label


def label_like_column(table: Table, without: str | None = None) -> str | None:
    """The column of fewest distinct values, but not of one if there is another; none where most values occur only once."""
    rows = [row.cells for row in table.rows if row.cells]
    candidates: list[tuple[bool, int, int, str]] = []
    for column in table.names:
        values = [cells[column] for cells in rows]
        if column != without:
            candidates.append((len(set(values)) == 1, len(set(values)), sum(map(len, values)), column))
    _, n_distinct, _, column = min(candidates, default=(True, 0, 0, None))
    few_enough = len(table.names) > 1 and (len(rows) < FEWEST_TO_JUDGE or 2 * n_distinct <= len(rows))
    return column if few_enough else None


def longest_column(table: Table, without: str | None = None) -> str | None:
    """The column that holds most characters."""
    sizes = {
        column: sum(len(row.cells[column]) for row in table.rows if row.cells)
        for column in table.names
        if column != without
    }
    return max(sizes, key=sizes.__getitem__, default=None)


def first_text_columns(table: Table) -> tuple[str, str] | None:
    """The first two columns of a table without a header that hold more than numbers."""
    texts = [
        column for column in table.names if not all(is_number(row.cells[column]) for row in table.rows if row.cells)
    ]
    return (texts[0], texts[1]) if len(texts) > 1 else None


def is_number(cell: str) -> bool:
    """Whether a cell is a whole number, as the identifiers of sentences are."""
    return cell.strip().isdecimal()


def text_of_cell(row: Row, column: str) -> tuple[str, str | None]:
    """The text of one cell without the space around it, and why it cannot be used, if it cannot."""
    if row.problem:
        return "", row.problem
    if column not in row.cells:
        return "", f"no key {column!r}"
    value = row.cells[column]
    problem = unfit_as_text(value)
    return ("", f"{column!r} {problem}") if problem else (str(value or "").strip(), None)
