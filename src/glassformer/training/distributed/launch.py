"""Where a command stands: alone, as one of processes that somebody started, or as the one that has to start them."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import tempfile
import uuid
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer import machine
from glassformer.errors import FAILED, ConfigError, GlassformerError

if TYPE_CHECKING:
    from glassformer.training.distributed.topology import Joined

OUTCOME = "GLASSFORMER_OUTCOME"  # the file in which processes leave how the run ended, for the one that started them
RESTARTS = 3
LOOK_EVERY = 0.5  # seconds between looks at whether all processes live
SLURM_PORTS = 20_000, 20_000  # the first that a job may take, and how many


@dataclass(frozen=True)
class Seat:
    """Which process this is, of how many, and which of those on this machine."""

    rank: int
    world: int
    local_rank: int
    local_world: int


def find_seat(environment: Mapping[str, str] = os.environ) -> Seat | None:
    """The place that torchrun, Kubeflow, Ray or Slurm gave this process; None where it was started by itself.

    Raises ConfigError where what they say cannot be.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if "WORLD_SIZE" not in environment:
        # A Slurm script that is not under srun has a SLURM_PROCID too, but no step.
        if not {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_ID"} <= environment.keys():
            return None
        names = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")
    try:
        rank, world = (int(environment[name]) for name in names[:2])
        local_rank = int(environment.get(names[2], rank))
        local_world = int(environment.get(names[3], world))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{names[1]} is set, so this is one process of several, but {names[0]} or another of {', '.join(names)} is "
            f"missing or no number ({error}); start all of them by torchrun, or unset {names[1]}"
        ) from None
    if not 0 <= rank < world:
        raise ConfigError(f"{names[0]}={rank} is out of range: expected 0 to {world - 1}, for {names[1]}={world}")
    return None if world == 1 else Seat(rank, world, local_rank, local_world)


def meet_at(environment: Mapping[str, str], seat: Seat) -> dict[str, str]:
    """The variables that torch finds the other processes by: those that are set, or what follows from Slurm's.

    Raises ConfigError where neither says where the first process is.
    """
    needed = ("MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in needed if name not in environment]
    if missing and "SLURM_STEP_NODELIST" not in environment:
        raise ConfigError(
            f"one process of {seat.world}, but {' and '.join(missing)} is not set: it is where the first process waits"
        )
    found = {name: environment[name] for name in needed if name in environment}
    if missing:
        first, many = SLURM_PORTS
        job = int(environment.get("SLURM_JOB_ID", 0))
        found = {
            "MASTER_ADDR": first_host(environment["SLURM_STEP_NODELIST"]),
            "MASTER_PORT": str(first + job % many),
            **found,
        }
    return {**found, "RANK": str(seat.rank), "WORLD_SIZE": str(seat.world), "LOCAL_RANK": str(seat.local_rank)}


def first_host(nodes: str) -> str:
    """The first of Slurm's list of machines: ``node[07-12,20],other`` gives ``node07``."""
    found = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^\[,]*))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else nodes


def how_many(asked: int | None, device: str | None, seat: Seat | None) -> int:
    """Processes to start here: as many as asked for, or one for each GPU. Raises ConfigError."""
    if asked is not None and asked < 1:
        raise ConfigError(f"--nproc {asked} is out of range: expected 1 or more")
    if seat is not None:
        if asked not in (None, seat.local_world, seat.world):
            raise ConfigError(
                f"--nproc {asked} in a process that is one of {seat.world} already: leave it out, they are started by others"
            )
        return 1
    if asked is not None or device not in (None, "auto", "cuda"):
        return asked or 1
    import torch

    return max(1, torch.cuda.device_count())


def launch(n: int, arguments: list[str]) -> int:
    """Run ``glassformer`` with these arguments in `n` processes, anew where one dies. Returns the exit code.

    This is what ``torch.distributed.run --standalone`` does, without its words for its own people: whatever ends the run
    is told in one sentence.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, int(machine.cores() / n))))
    # Without it the second start of the processes meets at the addresses of the first, and fails (torch 2.13).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # nobody else may listen in
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="glassformer-") as folder:
        outcome = Path(folder) / "outcome.json"
        os.environ[OUTCOME] = str(outcome)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=n,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=RESTARTS,
            monitor_interval=LOOK_EVERY,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        died = stopped = ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                elastic_launch(config, sys.executable)("-m", "glassformer", *arguments)
        except ChildFailedError as error:
            died = how_it_died(error)
        except SignalException as error:
            stopped = f"stopped by {error.sigval.name}"
        ended = read_outcome(outcome)
    if stopped:
        # After a signal torch leaves a thread of its own behind, for which Python would wait a minute or longer.
        ended = ended or {"message": stopped, "code": FAILED}
        print(f"glassformer: {ended['message']}", file=sys.stderr, flush=True)
        os._exit(ended["code"])
    if ended is not None:
        raise Ended(str(ended["message"]), int(ended["code"]))
    if died:
        raise GlassformerError(died)
    return 0


class Ended(GlassformerError):
    """How a run of several processes ended, as one of them tells it."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code


def how_it_died(error: Any) -> str:
    """A sentence on the process whose death ended the run."""
    rank, failure = error.get_first_failure()
    how = (
        f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with exit code {failure.exitcode}"
    )
    return f"process {rank} {how}, and again after each of {RESTARTS} starts; the same command goes on from the last checkpoint"


def read_outcome(path: Path) -> dict[str, Any] | None:
    """What processes left, if they did."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def taking_part(seat: Seat) -> Generator[Joined]:
    """The processes of a run, joined while the block runs.

    A GlassformerError of one ends all. Where `launch` started them, it is left to it to tell; where others did, and do so
    again by their own rules, it goes on to the caller. When another process is lost, this one leaves with FAILED.
    """
    outcome = Path(os.environ[OUTCOME]) if OUTCOME in os.environ else None
    if outcome is not None and outcome.exists():
        sys.exit(0)  # one of us has said why the run is over, and another's end had all started again
    os.environ.update(meet_at(os.environ, seat))
    from glassformer.training.distributed.topology import Joined, lost
    from glassformer.training.failures import StartAgain

    try:
        with Joined(seat).connected() as topology:
            warn_of_stale_addresses(topology.is_first)
            yield topology
    except GlassformerError as error:
        message = str(error) if seat.rank == 0 or error.exit_code != FAILED else f"process {seat.rank}: {error}"
        if outcome is None:
            raise Ended(message, error.exit_code) from None
        leave_outcome(outcome, {"message": message, "code": error.exit_code}, replace=seat.rank == 0)
        sys.exit(0)
    except Exception as error:
        if outcome is not None and outcome.exists():
            sys.exit(0)
        again = isinstance(error, StartAgain)
        if not again and not lost(error):
            raise
        if again:
            print(f"glassformer: process {seat.rank}: {error}", file=sys.stderr, flush=True)
        elif seat.rank == 0:
            first = str(error).strip().splitlines()[0][:160]
            print(f"glassformer: another process of this run was lost ({first})", file=sys.stderr, flush=True)
        os._exit(FAILED)  # whoever started it starts all again; a clean end would wait for those that are gone


def leave_outcome(path: Path, content: Mapping[str, Any], *, replace: bool = False) -> None:
    """Write how the run ended, unless another process did; to `replace` that is for the first process."""
    if (path.exists() and not replace) or not path.parent.exists():
        return
    draft = path.with_name(uuid.uuid4().hex)
    draft.write_text(json.dumps(content), encoding="utf-8")
    os.replace(draft, path)


def warn_of_stale_addresses(is_first: bool) -> None:
    """Say what may be wrong where another's torchrun has started the processes again."""
    again = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
    if is_first and again and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        warnings.warn(
            "torchrun has started these processes again and shares its store with them, at which processes may miss each "
            "other; start it with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1",
            stacklevel=2,
        )
