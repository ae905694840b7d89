"""Shards made by datatrove's executors, on this machine, by Slurm's script and on Ray, are those of our own, byte for byte."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glassformer.data.shards import Submitted, TokenizerChoice, open_shards, prepare_by
from glassformer.errors import ConfigError, DataError
from shards import contents, prepared, write_inputs

datatrove = pytest.mark.skipif(
    importlib.util.find_spec("datatrove") is None, reason="datatrove is not installed: pip install 'glassformer[scale]'"
)
ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'glassformer[scale]'"
)
# In processes of their own, since both libraries warn, log and leave threads behind in theirs.
PROGRAM = """
import json, sys
from pathlib import Path
from glassformer.data.shards import TokenizerChoice, prepare_by
from glassformer.errors import GlassformerError

if __name__ == "__main__":
    executor, folder, options, *files = sys.argv[1:]
    try:
        made = prepare_by(executor, files, Path(folder), TokenizerChoice(kind="bytes"), options=json.loads(options),
                          workers=2, shard_tokens=400, most_bad=0.5)
        print("made", type(made).__name__)
    except GlassformerError as error:
        print("error", error)
"""


def run(executor: str, folder: Path, files: list[Path], **options: object) -> str:
    """What a process that prepares shards says last."""
    path = folder.parent / "program.py"
    path.write_text(PROGRAM)
    command = [sys.executable, str(path), executor, str(folder), json.dumps(options), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def ours(files: list[Path], folder: Path) -> dict[str, bytes]:
    prepared(files, folder, choice=TokenizerChoice(kind="bytes"), shard_tokens=400)
    return contents(folder)


@pytest.mark.parametrize("executor", ["datatrove", "slurm", "ray"])
def test_what_is_not_installed_is_a_sentence(tmp_path: Path, monkeypatch, executor: str) -> None:
    monkeypatch.setitem(sys.modules, "datatrove", None)
    with pytest.raises(ConfigError, match=r"needs datatrove.*pip install 'glassformer\[scale\]'"):
        prepare_by(executor, write_inputs(tmp_path / "in"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_executors_and_options_without_one_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--executor slurmm: expected .*did you mean 'slurm'"):
        prepare_by("slurmm", [], tmp_path)
    with pytest.raises(ConfigError, match="--executor-option partition: is for datatrove, slurm and ray"):
        prepare_by("local", [], tmp_path, options={"partition": "cpu"})


def test_options_are_read_from_the_command_line() -> None:
    from glassformer.cli.data import named_options

    assert named_options(["time=04:00:00", "mem_per_cpu_gb=4", "qos="]) == {
        "time": "04:00:00",
        "mem_per_cpu_gb": 4,
        "qos": "",
    }
    with pytest.raises(ConfigError, match="--executor-option partition: expected KEY=VALUE"):
        named_options(["partition"])


@datatrove
@pytest.mark.slow
def test_datatrove_on_this_machine_makes_the_same_bytes_and_makes_what_is_missing(tmp_path: Path) -> None:
    files = write_inputs(tmp_path / "in")
    expected = ours(files, tmp_path / "ours")
    assert run("datatrove", tmp_path / "theirs", files) == "made Shards"
    assert contents(tmp_path / "theirs") == expected
    (tmp_path / "theirs" / "shard-00001.gft").unlink()
    assert run("datatrove", tmp_path / "theirs", files) == "made Shards"
    assert contents(tmp_path / "theirs") == expected


@datatrove
def test_a_part_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    files = write_inputs(tmp_path / "in")
    wrong = {"tokenizer": {"kind": "bytes"}}
    run("datatrove", tmp_path / "theirs", files)
    for path in (tmp_path / "theirs").glob("*.gft"):
        path.unlink()
    tokenizer = tmp_path / "theirs" / "tokenizer" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("{", "{ ", 1) + json.dumps(wrong))
    assert run("datatrove", tmp_path / "theirs", files).startswith("error ")


@datatrove
def test_options_of_the_executor_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--executor-option partion: SlurmPipelineExecutor has no such option \(did"):
        prepare_by("slurm", [], tmp_path, options={"partion": "cpu"})
    with pytest.raises(ConfigError, match="say --executor-option time="):
        prepare_by("slurm", [], tmp_path, options={"partition": "cpu"})
    with pytest.raises(ConfigError, match="there is no sbatch here"):
        prepare_by(
            "slurm",
            write_inputs(tmp_path / "in"),
            tmp_path / "out",
            TokenizerChoice(kind="bytes"),
            options={"partition": "cpu", "time": "01:00:00"},
        )


SBATCH = """#!{python}
import os, re, subprocess, sys
text = open(sys.argv[-1]).read()
n = len(os.listdir({jobs!r})) // 2
open(os.path.join({jobs!r}, f"job-{{n}}.sh"), "w").write(text)
open(os.path.join({jobs!r}, f"job-{{n}}.args"), "w").write(" ".join(sys.argv[1:-1]))
if "merge_stats" not in text:
    last = int(re.search(r"--array=0-(\\d+)", text)[1])
    for task in range(last + 1):
        more = dict(os.environ, SLURM_ARRAY_TASK_ID=str(task), RUN_OFFSET="0", SLURM_NODELIST="here")
        subprocess.run(["bash", sys.argv[-1]], env=more, check=True, stdout=sys.stderr)
print("Submitted batch job", 100 + n)
"""
SRUN = '#!/bin/bash\nwhile [[ "$1" == -* ]]; do [[ "$1" == -n ]] && shift; shift; done\nexec "$@"\n'


@datatrove
@pytest.mark.slow
def test_the_jobs_that_slurm_is_given_make_the_same_bytes(tmp_path: Path, monkeypatch) -> None:
    """sbatch and srun are stand-ins that run each task of the submitted script at once, in order."""
    files = write_inputs(tmp_path / "in")
    expected = ours(files, tmp_path / "ours")
    stubs, jobs = tmp_path / "bin", tmp_path / "jobs"
    stubs.mkdir()
    jobs.mkdir()
    programs = {
        "sbatch": SBATCH.format(python=sys.executable, jobs=str(jobs)),
        "srun": SRUN,
        "scontrol": "#!/bin/bash\necho localhost\n",
        "launch_pickled_pipeline": f"#!{sys.executable}\n"
        "from datatrove.tools.launch_pickled_pipeline import main\nmain()\n",
    }
    for name, text in programs.items():
        (stubs / name).write_text(text)
        (stubs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{stubs}{os.pathsep}{os.environ['PATH']}")
    said = run("slurm", tmp_path / "theirs", files, partition="cpu", time="01:00:00", mem_per_cpu_gb=3)
    assert said == f"made {Submitted.__name__}"
    scripts = [(jobs / f"job-{n}.sh").read_text() for n in range(len(list(jobs.glob("*.sh"))))]
    parts = len(open_shards(tmp_path / "theirs").shards)
    first = scripts[0]
    for line in ("--partition=cpu", "--time=01:00:00", "--mem-per-cpu=3G", f"--array=0-{parts - 1}%2"):
        assert f"#SBATCH {line}\n" in first
    assert "#SBATCH --job-name=shards-theirs\n" in first
    (last,) = (n for n, text in enumerate(scripts) if "--job-name=shards-theirs-manifest" in text and "srun" in text)
    assert "--dependency=afterok:100" in (jobs / f"job-{last}.args").read_text()
    assert contents(tmp_path / "theirs") == expected
    assert (
        run("slurm", tmp_path / "theirs", files, partition="cpu", time="01:00:00") == "made Shards"
    )  # nothing is left


@datatrove
@ray
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_ray_makes_the_same_bytes(tmp_path: Path) -> None:
    files = write_inputs(tmp_path / "in")
    expected = ours(files, tmp_path / "ours")
    assert run("ray", tmp_path / "theirs", files, mem_per_cpu_gb=1) == "made Shards"
    assert contents(tmp_path / "theirs") == expected


@datatrove
def test_shards_are_a_step_of_any_pipeline_of_datatrove(tmp_path: Path) -> None:
    files = write_inputs(tmp_path / "in")
    program = tmp_path / "mine.py"
    program.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from datatrove.executor import LocalPipelineExecutor\n"
        "from glassformer.data.shards import Reading, TokenizerChoice\n"
        "from glassformer.data.shards.pipeline_step import FinishShards, MakeShards\n"
        "from glassformer.data.shards.preparing import begin\n"
        "if __name__ == '__main__':\n"
        "    folder = Path(sys.argv[1])\n"
        "    parts, spec = begin(sys.argv[2:], folder, TokenizerChoice(kind='bytes'), Reading(), 400)\n"
        "    said = str(folder.parent / 'complaints')\n"
        "    for step, tasks in ((MakeShards(parts, spec, said), 3), (FinishShards(parts, spec, said, 0.5), 1)):\n"
        "        LocalPipelineExecutor([step], tasks=tasks, workers=1, logging_dir=f'{folder}-{tasks}').run()\n"
    )
    done = subprocess.run([sys.executable, str(program), str(tmp_path / "theirs"), *map(str, files)], timeout=120)
    assert done.returncode == 0
    left = {name: data for name, data in contents(tmp_path / "theirs").items() if not name.endswith("quarantine.jsonl")}
    assert left == {n: d for n, d in ours(files, tmp_path / "ours").items() if not n.endswith("quarantine.jsonl")}


def test_a_shard_that_nobody_made_is_missed(tmp_path: Path, monkeypatch) -> None:
    from glassformer.data.shards.executors import begin_logs, check_all_made, complaints_in

    made: list[object] = []

    def maker(parts, spec, workers, progress) -> None:
        made.append((parts, spec))
        check_all_made(parts, spec, complaints_in(begin_logs(Path(spec.folder))))

    with pytest.raises(DataError, match=r"shard-00000\.gft: was not made; the logs in .*-logs say why"):
        prepared(write_inputs(tmp_path / "in"), tmp_path / "out", maker=maker)
    assert made
