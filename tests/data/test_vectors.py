"""Sequences of vectors from .npy, .npz and Parquet: read as they were written, or refused in one sentence; never unpickled."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from glassformer.data import Utterance, read_utterances, read_vectors
from glassformer.errors import DataError
from spoken import write_npy

files_anew = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of(path: str, part: str = "") -> Utterance:
    return Utterance(path, Path(path), "text", part=part)


def some(n_steps: int, n_channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_steps, n_channels)).astype(np.float32)


class Trap:
    """What runs where a pickle of it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("it-ran"),)


# --- .npy -------------------------------------------------------------------------------------------------------------


@files_anew
@given(
    array=arrays.arrays(
        st.sampled_from([np.float16, np.float32, ">f4", np.int16, np.uint8, np.bool_]),
        arrays.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=6),
        elements=st.integers(0, 1),
    ),
    fortran=st.booleans(),
)
def test_an_array_is_read_as_it_was_written(array: np.ndarray, fortran: bool):
    np.save("a.npy", np.asfortranarray(array) if fortran else array)
    found = read_vectors(of("a.npy"))
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, array.reshape(len(array), -1).astype(np.float32))


def test_a_manifest_that_names_arrays():
    write_npy("x/a.npy", 4)
    write_npy("x/b.npy", 6, seed=1)
    np.savez("both.npz", one=some(5, 3), two=some(2, 3))
    Path("m.csv").write_text(
        "path,key,text\nx/a.npy,,hello\nx/b.npy,,bye\nboth.npz,two,again\nboth.npz,three,x\nboth.npz,,y\n"
    )
    corpus = read_utterances("m.csv")
    assert (corpus.kind, corpus.channels) == ("vectors", 3)
    assert [(row.text, row.part, row.shape) for row in corpus.rows] == [
        ("hello", "", (4, 3)),
        ("bye", "", (6, 3)),
        ("again", "two", (2, 3)),
    ]
    np.testing.assert_array_equal(read_vectors(corpus.rows[2]), some(2, 3))
    assert [(row.where, row.reason) for row in corpus.skipped] == [
        ("m.csv:5", "vectors that cannot be used: both.npz: no array 'three', found 'one', 'two'; "
         "give the name of one in a column 'key'"),
        ("m.csv:6", "vectors that cannot be used: both.npz: 2 arrays where a single one is expected, found 'one', 'two'; "
         "give the name of one in a column 'key'"),
    ]  # fmt: skip
    assert corpus.notes[0] == "1 source, 3 utterances, 12 vectors of 3 numbers, 3 different texts"


def test_folders_of_arrays():
    for place in ("up/1.npy", "up/2.npy", "down/1.npy"):
        write_npy(f"moves/{place}")
    corpus = read_utterances("moves", wanted="label")
    assert [row.text for row in corpus.rows] == ["down", "up", "up"]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 4)), r"an array of 2 x 3 x 4, expected T x F"),
        (np.array(1.0), r"an array of one number, expected T x F"),
        (np.zeros((0, 3)), r"an array of 0 x 3, which holds no vector"),
        (np.zeros((3, 0)), r"an array of 3 x 0, which holds no vector"),
        (np.zeros((2, 2), np.complex64), r"holds complex64, expected real numbers"),
        (np.array(["a", "b"]), r"holds <U1, expected real numbers"),
    ],
)
def test_arrays_that_are_no_sequence(array: np.ndarray, message: str):
    np.save("a.npy", array)
    with pytest.raises(DataError, match=rf"a\.npy: {message}"):
        read_vectors(of("a.npy"))
    write_npy("b.npy")
    Path("m.csv").write_text("path,text\na.npy,x\nb.npy,y\n")
    corpus = read_utterances("m.csv")
    assert len(corpus.rows) == len(corpus.skipped) == 1
    assert corpus.skipped[0].where == "m.csv:2"


@pytest.mark.parametrize(("value", "said"), [(np.nan, "nan"), (np.inf, "inf"), (1e200, r"1e\+200")])
def test_numbers_that_are_not_finite_are_named(value: float, said: str):
    array = np.zeros((4, 3))
    array[2, 1] = value
    np.save("a.npy", array)
    with pytest.raises(DataError, match=rf"a\.npy: number 2 of vector 3 is {said}, expected a finite number"):
        read_vectors(of("a.npy"))


def test_pickled_objects_are_refused_and_not_run():
    np.save("a.npy", np.array([Trap(), None], dtype=object), allow_pickle=True)
    np.savez("b.npz", one=some(2, 3), two=np.array([Trap()], dtype=object))
    Path("c.npy").write_bytes(pickle.dumps(Trap()))
    for row in (of("a.npy"), of("b.npz", "two")):
        with pytest.raises(DataError, match="holds pickled objects, which are not read as they can run code"):
            read_vectors(row)
    with pytest.raises(DataError, match=r"c\.npy: is no sound file of numpy"):
        read_vectors(of("c.npy"))
    assert not Path("it-ran").exists()


def test_vectors_of_different_sizes_are_one_sentence():
    write_npy("a.npy", 4, 3)
    write_npy("b.npy", 4, 5)
    write_npy("c.npy", 6, 3)
    Path("m.csv").write_text("path,text\na.npy,x\nb.npy,y\nc.npy,z\n")
    with pytest.raises(
        DataError, match=r"m\.csv:3: vectors of 5 numbers, where m\.csv:2 has 3; all must be of one size"
    ):
        read_utterances("m.csv")
    Path("m.csv").write_text("path,text\na.npy,x\nb.npy,y\n")
    with pytest.raises(DataError, match=r"are they the other way round"):
        read_utterances("m.csv")


def test_a_header_that_promises_more_than_there_is():
    write_npy("a.npy", 40, 3)
    Path("b.npy").write_bytes(Path("a.npy").read_bytes()[:-100])
    with pytest.raises(
        DataError, match=r"b\.npy: 380 bytes behind a header that says 40 x 3 float32; it was cut short"
    ):
        read_vectors(of("b.npy"))


# --- .npz -------------------------------------------------------------------------------------------------------------


def test_an_archive_of_all_data():
    padded = np.stack([some(5, 2, seed) for seed in range(3)])
    np.savez(
        "a.npz", data=padded, lengths=[5, 2, 3], labels=[1, 0, 1], speaker=np.array(["x", "y", "x"]), length_of_all=5
    )
    corpus = read_utterances("a.npz", wanted="label")
    assert [(row.text, row.speaker, row.part, row.shape) for row in corpus.rows] == [
        ("1", "x", "data[0]", (5, 2)),
        ("0", "y", "data[1]", (2, 2)),
        ("1", "x", "data[2]", (3, 2)),
    ]
    np.testing.assert_array_equal(read_vectors(corpus.rows[1]), padded[1, :2])
    joined = np.concatenate([padded[0], padded[1, :2], padded[2, :3]])
    np.savez_compressed("b.npz", x=joined, lengths=[5, 2, 3], text=np.array(["one", "two", ""]))
    corpus = read_utterances("b.npz")
    assert [row.text for row in corpus.rows] == ["one", "two"]
    assert [(row.where, row.reason) for row in corpus.skipped] == [("b.npz, x[2]", "the text is empty")]
    np.testing.assert_array_equal(read_vectors(corpus.rows[1]), padded[1, :2])


def test_an_archive_whose_names_tell():
    np.savez("a.npz", yes_1=some(3, 2), no_1=some(4, 2), other=some(4, 2))
    corpus = read_utterances("a.npz", name_pattern="{label}_{take}", wanted="label")
    assert [(row.text, row.part) for row in corpus.rows] == [("yes", "yes_1"), ("no", "no_1")]
    assert len(corpus.skipped) == 1
    with pytest.raises(
        DataError, match=r"a\.npz: no array of labels, found 'yes_1', 'no_1', 'other'; .*--name-pattern"
    ):
        read_utterances("a.npz", wanted="label")


@pytest.mark.parametrize(
    ("arrays_in_it", "message"),
    [
        ({"data": np.zeros((3, 4, 2)), "lengths": [4, 5, 1], "y": [1, 2, 3]}, "3 lengths up to 5 for 3 sequences of 4"),
        ({"data": np.zeros((3, 4, 2)), "lengths": [4, 4], "y": [1, 2]}, "2 lengths up to 4 for 3 sequences of 4"),
        ({"data": np.zeros((9, 2)), "lengths": [4, 4], "y": [1, 2]}, "lengths that add up to 8 for 9 vectors"),
        ({"data": np.zeros((9, 2)), "lengths": [-1, 10], "y": [1, 2]}, "holds the length -1"),
        ({"data": np.zeros((9, 2)), "lengths": [4.5, 4.5], "y": [1, 2]}, "expected whole numbers in a row"),
        ({"data": np.zeros((9, 2)), "y": [1, 2]}, "no array 'lengths' says where one sequence ends"),
        ({"data": np.zeros((3, 4, 2)), "y": [1, 2]}, "holds 2, expected one text for each of 3 sequences"),
    ],
)
def test_archives_that_do_not_fit_together(arrays_in_it: dict[str, Any], message: str):
    np.savez("a.npz", **arrays_in_it)
    with pytest.raises(DataError, match=message):
        read_utterances("a.npz", wanted="label")


def test_an_archive_that_is_written_anew_is_read_anew():
    np.savez("a.npz", one=some(3, 2))
    first = read_vectors(of("a.npz"))
    np.savez("a.npz", one=some(30, 2, seed=1))
    assert len(first) == 3
    assert len(read_vectors(of("a.npz"))) == 30


# --- Parquet ----------------------------------------------------------------------------------------------------------


def write_parquet(name: str, columns: dict[str, Any], **options: Any) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), name, **options)


def test_a_column_of_lists_of_lists():
    sequences = [some(n, 2, n).tolist() for n in (3, 1, 4)]
    told = {"vectors": [*sequences, [[1.0, 2.0], [3.0]], None, []], "text": list("abcdef"), "speaker": ["x"] * 6}
    write_parquet("a.parquet", told, row_group_size=2)
    corpus = read_utterances("a.parquet")
    assert [(row.text, row.speaker, row.part, row.shape) for row in corpus.rows] == [
        ("a", "x", "row 1 of vectors", (3, 2)),
        ("b", "x", "row 2 of vectors", (1, 2)),
        ("c", "x", "row 3 of vectors", (4, 2)),
    ]
    assert [row.where for row in corpus.skipped] == ["a.parquet, row 4", "a.parquet, row 5", "a.parquet, row 6"]
    for row, sequence in zip(corpus.rows, sequences, strict=True):
        np.testing.assert_array_equal(read_vectors(row), np.array(sequence, np.float32))
    with pytest.raises(DataError, match="vector 2 has 1 numbers and the first has 2"):
        read_vectors(of("a.parquet", "row 4 of vectors"))
    with pytest.raises(DataError, match="has no row 7, only 6"):
        read_vectors(of("a.parquet", "row 7 of vectors"))


def test_columns_whose_rows_belong_together_by_an_id():
    columns = {"id": ["s1"] * 3 + ["s2"] * 2, "time": [0, 1, 2, 0, 1], "x": [1.0, 2, 3, 4, 5], "y": [5, 4, 3, 2, 1],
               "activity": [7] * 3 + [8] * 2}  # fmt: skip
    write_parquet("a.parquet", columns)
    corpus = read_utterances("a.parquet", wanted="label", label_key="activity")
    assert [(row.text, row.part, row.shape) for row in corpus.rows] == [
        ("7", "rows 1 to 3 of x, y", (3, 2)),
        ("8", "rows 4 to 5 of x, y", (2, 2)),
    ]
    np.testing.assert_array_equal(read_vectors(corpus.rows[1]), [[4, 2], [5, 1]])
    write_parquet("b.parquet", {**columns, "id": ["s1", "s2", "s1", "s2", "s2"]})
    with pytest.raises(DataError, match=r"b\.parquet, row 3: id 's1' comes again after rows of another; sort the rows"):
        read_utterances("b.parquet", label_key="activity")
    write_parquet("c.parquet", {**columns, "x": [1.0, None, 3, 4, 5]})
    corpus = read_utterances("c.parquet", label_key="activity")
    with pytest.raises(DataError, match="number 1 of vector 2 is nan"):
        read_vectors(corpus.rows[0])
    with pytest.raises(DataError, match=r"no column known as the text, found 'id', 'time'.*--text-key"):
        read_utterances("a.parquet")


def test_a_manifest_in_parquet():
    write_npy("x/a.npy")
    write_parquet("m.parquet", {"path": ["x/a.npy", "x/no.npy"], "text": ["one", "two"]})
    corpus = read_utterances("m.parquet")
    assert [(row.where, row.text) for row in corpus.rows] == [("m.parquet, row 1", "one")]


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "npz", "zip", "parquet"])
def test_damaged_files_are_refused_in_one_sentence(kind: str):
    """Bytes changed, cut off and put in: either the numbers come out, finite and of two sizes, or our own error."""
    part = ""
    if kind == "npy":
        np.save("a.npy", some(20, 3))
    elif kind == "parquet":
        write_parquet("a.parquet", {"vectors": [some(5, 3).tolist()] * 3, "text": list("abc")})
        part = "row 2 of vectors"
    else:
        (np.savez if kind == "npz" else np.savez_compressed)("a.npz", one=some(20, 3))
    name = f"b.{kind.replace('zip', 'npz')}"
    whole = next(Path().glob("a.*")).read_bytes()
    draw = random.Random(kind)
    refusals: list[str] = []
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(draw.choice((1, 1, 4, 40))):
            content[draw.randrange(len(content))] = draw.randrange(256)
        if draw.random() < 0.3:
            del content[draw.randrange(len(content)) :]
        Path(name).write_bytes(content)
        Path("m.csv").write_text(f"path,text\n{name},x\n")
        for attempt in (lambda: read_vectors(of(name, part)), lambda: read_utterances("m.csv")):
            try:
                found = attempt()
            except DataError as error:
                refusals.append(str(error))
                continue
            assert not isinstance(found, np.ndarray) or (np.isfinite(found).all() and found.ndim == 2)
    assert len(refusals) > 40
    assert not any("\n" in refusal for refusal in refusals)
