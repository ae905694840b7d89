"""``glassformer doctor``: whether this machine can train, line by line, and what to do where it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from typer import Exit, Option

from glassformer.cli.flags import AsJson


def doctor(
    out_dir: Annotated[
        Path, Option("--out-dir", "-o", help="Where runs would be written, whose disk is looked at.")
    ] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Machine, packages, threads, compiled kernels, the precision that is fast here, disk, and common traps.

    Each line is ok, a note, or a problem with what to do. Leaves with 0 if this machine can train, else with 1.
    """
    from glassformer.cli.checkup import checkup
    from glassformer.errors import FAILED

    findings = list(checkup(out_dir))
    problems = [finding for finding in findings if finding.state == "problem"]
    if as_json:
        print(json.dumps({"can_train": not problems, "findings": [vars(finding) for finding in findings]}, indent=2))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{finding.state:<8} {finding.name:<{width}}  {finding.found}")
            if finding.todo:
                print(f"{'':<8} {'':<{width}}  -> {finding.todo}")
        print(
            "\nThis machine can train."
            if not problems
            else f"\nThis machine cannot train yet: {len(problems)} problems."
        )
    if problems:
        raise Exit(FAILED)
