"""Files and folders are written whole or not at all, and the disk's refusals are sentences."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import textwrap

import pytest

from glassformer import files
from glassformer.files import DiskError, recover, replaced, sha256, whole_file, whole_folder


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_file_appears_whole_in_folders_made_for_it(tmp_path):
    path = tmp_path / "a" / "b" / "notes.txt"
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.name.startswith(files.TEMPORARY)
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a", "b", "notes.txt"]


def test_a_folder_appears_whole_with_all_that_is_in_it(tmp_path):
    path = tmp_path / "runs" / "model"
    with whole_folder(path) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "weights").write_bytes(b"123")
        assert not path.exists()
    assert (path / "inner" / "weights").read_bytes() == b"123"
    assert names(tmp_path) == ["inner", "model", "runs", "weights"]


def test_a_file_that_exists_is_replaced_at_the_end_and_not_before(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_folder_that_exists_is_replaced_not_merged(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    with whole_folder(path) as temporary:
        (temporary / "new").write_text("new")
        assert names(path) == ["old"]
    assert names(tmp_path) == ["model", "new"]


def write_half(path, kind):
    path.write_text("half")
    raise kind


class Stop(BaseException):
    """What Ctrl-C raises is no Exception either."""


@pytest.mark.parametrize("kind", [ValueError, Stop, KeyboardInterrupt])
def test_after_an_exception_inside_the_old_file_stands_and_nothing_else(tmp_path, kind):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with pytest.raises(kind), whole_file(path) as temporary:
        write_half(temporary, kind)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize("kind", [ValueError, Stop, KeyboardInterrupt])
def test_after_an_exception_inside_the_old_folder_stands_and_nothing_else(tmp_path, kind):
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights").write_text("old")
    with pytest.raises(kind), whole_folder(path) as temporary:
        write_half(temporary / "weights", kind)
    assert (path / "weights").read_text() == "old"
    assert names(tmp_path) == ["model", "weights"]


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that refuses to keep what was written, as a full one does when its cache is flushed."""

    def refuse(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)


def test_a_full_disk_is_a_sentence_with_the_path_and_the_old_file_stands(tmp_path, full_disk):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with pytest.raises(DiskError) as error, whole_file(path) as temporary:
        temporary.write_text("new")
    assert str(error.value).startswith(f"{path}: the disk is full (")
    assert "MB free" in str(error.value)
    assert error.value.exit_code == 1
    assert path.read_text() == "old"
    assert names(tmp_path) == ["notes.txt"]


def test_a_full_disk_leaves_the_old_folder(tmp_path, full_disk):
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights").write_text("old")
    with pytest.raises(DiskError, match="the disk is full"), whole_folder(path) as temporary:
        (temporary / "weights").write_text("new")
    assert (path / "weights").read_text() == "old"
    assert names(tmp_path) == ["model", "weights"]


def test_a_folder_whose_renaming_fails_half_way_is_put_back(tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights").write_text("old")
    rename, calls = os.rename, []

    def fail_at_the_second(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_at_the_second)
    with (
        pytest.raises(DiskError, match=r"model: cannot be written \(Input/output error\)"),
        whole_folder(path) as temporary,
    ):
        (temporary / "weights").write_text("new")
    assert (path / "weights").read_text() == "old"
    assert names(tmp_path) == ["model", "weights"]


def test_a_folder_lost_between_the_two_renames_is_recovered_and_its_successor_replaces_it(tmp_path):
    path = tmp_path / "model"
    replaced(path).mkdir()
    (replaced(path) / "weights").write_text("old")
    recover(path)
    assert (path / "weights").read_text() == "old"
    os.rename(path, replaced(path))
    with whole_folder(path) as temporary:
        (temporary / "weights").write_text("new")
    assert (path / "weights").read_text() == "new"
    assert names(tmp_path) == ["model", "weights"]


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
@pytest.mark.parametrize(
    "write",
    [
        "temporary.write_bytes(bytes(100_000))",
        "safetensors.numpy.save_file({'w': numpy.zeros(100_000)}, temporary)",
    ],
)
def test_a_real_refusal_to_write_on_is_the_same_sentence_whoever_writes(tmp_path, write):
    """A limit on file size stands for a disk that fills up: the same writes fail, in the same places."""
    path = tmp_path / "weights.bin"
    path.write_text("old")
    code = f"""
        import resource, sys
        from pathlib import Path
        import numpy, safetensors.numpy
        from glassformer.files import DiskError, whole_file
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            with whole_file(Path(sys.argv[1])) as temporary:
                {write}
        except DiskError as error:
            sys.exit(f"SAID {{error}}")
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)], capture_output=True, text=True, check=False
    )
    assert done.stderr.startswith(f"SAID {path}: the disk is full"), done.stderr
    assert path.read_text() == "old"
    assert names(tmp_path) == ["weights.bin"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_place_below_a_file_is_a_sentence(tmp_path, whole):
    (tmp_path / "file").write_text("old")
    with pytest.raises(DiskError, match="cannot be written"), whole(tmp_path / "file" / "inner"):
        pass
    assert names(tmp_path) == ["file"]


def test_a_folder_in_the_place_of_the_file_is_a_sentence(tmp_path):
    (tmp_path / "place" / "inner").mkdir(parents=True)
    with pytest.raises(DiskError, match="place: cannot be written"), whole_file(tmp_path / "place") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["inner", "place"]


def test_mistakes_that_are_not_the_disks_pass_through(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a") as temporary:
        temporary.write_text(str(1 / 0))


def test_everything_is_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    happened = []
    fsync, replace, rename = os.fsync, os.replace, os.rename
    monkeypatch.setattr(os, "fsync", lambda handle: (happened.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *ends: (happened.append("rename"), replace(*ends)))
    monkeypatch.setattr(os, "rename", lambda *ends: (happened.append("rename"), rename(*ends)))
    with whole_file(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert happened == ["fsync", "rename", "fsync"]
    happened.clear()
    with whole_folder(tmp_path / "b") as temporary:
        (temporary / "x").write_text("x")
        (temporary / "y").write_text("y")
    assert happened == ["fsync", "fsync", "fsync", "rename", "fsync"]


def test_sha256_is_the_digest_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
