"""A disk that is full at every fiftieth of a file, and at every page of a whole checkpoint: nothing that stood there is lost, and
nothing half written is published."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def test_fifty_sizes_at_which_the_disk_is_full(parent, tmp_path):
    code = parent.run("misbehaving:fill_the_disk", tmp_path / "log", tmp_path, 50)
    said = (tmp_path / "log").read_text()
    assert code == 0, said
    assert said.strip() == "refused 50 of 50, lost 0, published 0 bad ones"


def test_every_page_at_which_a_small_file_system_is_full(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size=2m tmpfs {small}"
    apart = ["unshare", "--mount", "bash", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*apart, mount], capture_output=True).returncode:
        pytest.skip("mounting a small file system takes rights that are not given here")
    program = f"from misbehaving import fill_a_file_system; fill_a_file_system({str(small)!r})"
    done = subprocess.run(
        [*apart, f'{mount} && exec "{sys.executable}" -c "{program}"'],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"refused (\d+) of (\d+), lost 0, published 0 bad ones; .*\n", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) == int(found[2]) >= 8
