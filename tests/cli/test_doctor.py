"""``glassformer doctor`` answers on any machine, however broken, and says of what keeps it from training what to do."""

from __future__ import annotations

import builtins
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from glassformer import machine
from glassformer.cli import checkup as room
from glassformer.cli.checkup import CHECKS, checkup, numbers, parsed
from glassformer.machine import Memory

STATES = {"ok", "note", "problem"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small matrices, and little written."""
    monkeypatch.setattr(room, "SQUARE", 16)
    monkeypatch.setattr(room, "WRITTEN", 1000)
    monkeypatch.setattr(room.os, "fsync", lambda handle: None)
    monkeypatch.setattr(room.os, "getloadavg", lambda: (0.1, 0.1, 0.1), raising=False)


def found(tmp_path, name):
    """The findings of one name."""
    return [finding for finding in checkup(tmp_path / "runs") if finding.name == name]


def test_this_machine_can_train_and_every_line_is_one_of_three_kinds(command, tmp_path):
    done = command("doctor", "-o", tmp_path / "runs")
    assert done.code == 0, done.out
    assert done.err == ""
    assert done.out.endswith("\nThis machine can train.\n")
    lines = [line for line in done.out.splitlines()[:-2] if not line.startswith(" ")]
    assert {line.split()[0] for line in lines} <= STATES
    for name in ("machine", "memory", "python", "torch", "threads", "C kernels", "precision", "disk"):
        assert any(name in line for line in lines), name


def test_json_says_the_same(command, tmp_path):
    done = command("doctor", "--json", "-o", tmp_path / "runs")
    told = json.loads(done.out)
    assert (done.code, told["can_train"]) == (0, True)
    assert {finding["state"] for finding in told["findings"]} <= STATES
    assert {"name", "state", "found", "todo"} == set(told["findings"][0])


def test_nothing_is_left_behind(tmp_path):
    list(checkup(tmp_path / "runs"))
    assert list(tmp_path.iterdir()) == []


def test_every_problem_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "memory", lambda: Memory(10_000_000, 8_000_000_000))
    monkeypatch.setattr(machine, "free_disk", lambda path: 5)
    findings = list(checkup(tmp_path / "runs"))
    problems = [finding for finding in findings if finding.state == "problem"]
    assert {finding.name for finding in problems} == {"memory", "disk"}
    assert all(finding.todo for finding in problems)


def test_a_machine_that_cannot_train_leaves_with_one(command, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "memory", lambda: Memory(10_000_000, 8_000_000_000))
    done = command("doctor", "-o", tmp_path / "runs")
    assert done.code == 1
    assert "This machine cannot train yet" in done.out
    assert json.loads(command("doctor", "--json", "-o", tmp_path / "runs").out)["can_train"] is False


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_that_breaks_is_a_line_and_the_others_go_on(monkeypatch, tmp_path, name):
    def broken(*anything):
        raise RuntimeError("wires are loose\nin many ways")

    monkeypatch.setitem(CHECKS, name, broken)
    (finding,) = [finding for finding in checkup(tmp_path) if "wires" in finding.found]
    assert (finding.name, finding.state) == (name, "note")
    assert finding.found == "could not be found out (RuntimeError: wires are loose)"


def test_without_torch_every_check_still_answers(monkeypatch, tmp_path):
    genuine = builtins.__import__

    def without(name, *more):
        if name == "torch" or name.startswith("torch."):
            raise ImportError("libtorch_cpu.so: cannot open shared object file")
        return genuine(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(
        room.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError("libtorch_cpu.so: missing"))
    )
    findings = list(checkup(tmp_path))
    (torch,) = [finding for finding in findings if finding.name == "torch"]
    assert (torch.state, torch.found) == ("problem", "cannot be imported (libtorch_cpu.so: missing)")
    assert len({finding.name for finding in findings}) >= 10


@pytest.mark.slow
def test_the_command_itself_answers_where_torch_is_broken(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libtorch.so: wrong ELF class')")
    done = subprocess.run(
        [sys.executable, "-m", "glassformer", "doctor", "-o", str(tmp_path)],
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2] / 'src'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot be imported (libtorch.so: wrong ELF class)" in done.stdout


def test_a_missing_or_old_package_is_a_problem_with_its_name(monkeypatch, tmp_path):
    genuine = importlib.metadata.version

    def version(name):
        if name == "safetensors":
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.9.1+cpu" if name == "torch" else genuine(name)

    needs = [
        "torch>=2.10",
        "safetensors>=0.5",
        "numpy>=1.26",
        'nowhere>=1; extra == "hub"',
        'numpy>=1; extra == "gguf"',
    ]
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needs)
    (packages,) = found(tmp_path, "packages")
    assert packages.state == "problem"
    assert packages.found == "torch is 2.9.1+cpu, and 2.10 or newer is needed; safetensors is missing"
    (extras,) = found(tmp_path, "extras")
    assert extras.found == "gguf; not installed: hub"
    assert "glassformer[hub]" in extras.todo


def test_source_that_is_not_installed_is_a_note(monkeypatch, tmp_path):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    (packages,) = found(tmp_path, "packages")
    assert packages.state == "note"


@pytest.mark.parametrize(
    ("requirement", "read"),
    [
        ("torch>=2.10", ("torch", "2.10", None)),
        ("transformers<6,>=5.0; extra == 'dev'", ("transformers", "5.0", "dev")),
        ('gguf>=0.17; extra == "gguf"', ("gguf", "0.17", "gguf")),
        ("ruff", ("ruff", "0", None)),
    ],
)
def test_requirements_are_read(requirement, read):
    assert parsed(requirement) == read


def test_versions_are_compared_by_number():
    assert numbers("2.9.1") < numbers("2.10") <= numbers("2.10.0+cpu") < numbers("2.13.0")


def test_more_threads_than_cores_are_a_note(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    (threads,) = found(tmp_path, "threads")
    assert threads.state == "note"
    assert "OMP_NUM_THREADS=64" in threads.found
    assert f"--threads {int(machine.cores())}" in threads.todo


def test_threads_that_are_no_number_are_told(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "two")
    assert any("OMP_NUM_THREADS=two is no number" in finding.found for finding in found(tmp_path, "threads"))


def test_without_a_compiler_training_goes_on_slower(monkeypatch, tmp_path):
    from glassformer.ops import native

    monkeypatch.setenv("CC", "no-such-compiler")
    native.library.cache_clear()
    (kernels,) = found(tmp_path, "C kernels")
    native.library.cache_clear()
    assert kernels.state == "note"
    assert "no C compiler was found" in kernels.found
    assert "CC=no-such-compiler" in kernels.todo


def test_kernels_that_are_switched_off_are_told(monkeypatch, tmp_path):
    monkeypatch.setenv("GLASSFORMER_FUSED", "0")
    (kernels,) = found(tmp_path, "C kernels")
    assert (kernels.state, "GLASSFORMER_FUSED=0" in kernels.found) == ("note", True)


def test_a_torch_for_gpus_without_a_gpu_is_a_note(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (accelerator,) = found(tmp_path, "accelerator")
    assert accelerator.state == "note"
    assert "built for CUDA 12.8" in accelerator.found


def test_a_disk_that_cannot_be_written_is_a_problem(monkeypatch, tmp_path):
    def refused(place):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(room, "write_speed", refused)
    (disk,) = found(tmp_path, "disk")
    assert (disk.state, disk.found) == ("problem", f"{tmp_path} cannot be written (Permission denied)")


def test_a_slow_or_distant_disk_is_a_note(monkeypatch, tmp_path):
    monkeypatch.setattr(room, "write_speed", lambda place: 1e6)
    monkeypatch.setattr(machine, "file_system", lambda path: "nfs4")
    slow, distant = found(tmp_path, "disk")
    assert (slow.state, distant.state) == ("note", "note")
    assert "nfs4" in distant.found


def test_no_home_and_no_folder_for_temporary_files_are_notes(monkeypatch, tmp_path):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    def none():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.delenv("GLASSFORMER_HOME", raising=False)
    monkeypatch.setattr(room.Path, "home", nowhere)
    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert [finding.state for finding in found(tmp_path, "home")] == ["note"]
    assert [finding.state for finding in found(tmp_path, "temporary files")] == ["note"]


def test_a_home_that_is_a_file_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GLASSFORMER_HOME", str(tmp_path / "file" / "inner"))
    (home,) = found(tmp_path, "home")
    assert home.state == "note"


def test_swap_in_use_and_busy_cores_are_notes(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "memory", lambda: Memory(8_000_000_000, 16_000_000_000, True, 3_000_000_000))
    monkeypatch.setattr(room.os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    (memory,), (swap,), (load,) = (found(tmp_path, name) for name in ("memory", "swap", "load"))
    assert "that this container may have" in memory.found
    assert (memory.state, swap.state, load.state) == ("ok", "note", "note")


# What the system says, in files of our own.


@pytest.fixture
def system(monkeypatch, tmp_path):
    """/proc and /sys/fs/cgroup as a test writes them."""
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "OWN", tmp_path / "self")
    (tmp_path / "self").mkdir()
    (tmp_path / "cgroup" / "box" / "inner").mkdir(parents=True)
    (tmp_path / "meminfo").write_text(
        "MemTotal:   16000000 kB\nMemAvailable:   9000000 kB\nSwapTotal: 100 kB\nSwapFree: 40 kB\n"
    )
    return tmp_path


def test_memory_is_what_is_available_where_nothing_limits_it(system):
    assert machine.memory() == Memory(9_000_000 * 1024, 16_000_000 * 1024, False, 60 * 1024)


def test_the_tightest_container_around_a_process_limits_it(system):
    (system / "self" / "cgroup").write_text("0::/box/inner\n")
    (system / "cgroup" / "box" / "inner" / "memory.max").write_text("max\n")
    box = system / "cgroup" / "box"
    (box / "memory.max").write_text("2000000000\n")
    (box / "memory.current").write_text("1500000000\n")
    (box / "memory.stat").write_text("anon 5\ninactive_file 300000000\n")
    found = machine.memory()
    assert found is not None
    assert (found.free, found.total, found.limited) == (800_000_000, 2_000_000_000, True)


def test_containers_of_the_first_version_limit_too(system):
    (system / "self" / "cgroup").write_text("4:memory:/box\n2:cpu:/\n")
    box = system / "cgroup" / "memory" / "box"
    box.mkdir(parents=True)
    (box / "memory.limit_in_bytes").write_text("1000000000\n")
    (box / "memory.usage_in_bytes").write_text("400000000\n")
    found = machine.memory()
    assert found is not None
    assert (found.free, found.limited) == (600_000_000, True)


@pytest.mark.parametrize("content", ["", "MemAvailable: many kB\n", "\x00\x01", None])
def test_a_system_that_says_nothing_of_memory_is_no_crash(system, content):
    (system / "meminfo").unlink() if content is None else (system / "meminfo").write_text(content)
    assert machine.memory() is None
    assert machine.held() == 0
    assert machine.file_system(system) == ""
    assert machine.cores() > 0


def test_a_share_of_the_cores_counts_as_so_many(system):
    (system / "self" / "cgroup").write_text("0::/box\n")
    (system / "cgroup" / "box" / "cpu.max").write_text("50000 100000\n")
    assert machine.cores() == 0.5


def test_the_file_system_is_that_of_the_innermost_mount(system, tmp_path):
    (system / "self" / "mounts").write_text(f"/dev/a / ext4 rw 0 0\nhost:/x {tmp_path} nfs4 rw 0 0\n")
    assert machine.file_system(tmp_path / "deep" / "er") == "nfs4"
    assert machine.file_system(Path("/")) == "ext4"


def test_a_process_began_before_now():
    import time

    assert 0 <= time.monotonic() - machine.began() < 7 * 86400
