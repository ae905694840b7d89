"""Where the model of a run folder is."""

from __future__ import annotations

from pathlib import Path

from glassformer.errors import CheckpointError


def model_folder(folder: Path) -> Path:
    """Where the model of a run folder is: `best`, else `final`; any other folder is taken to be one itself."""
    for name in ("best", "final"):
        if (folder / name / "config.json").exists():
            return folder / name
    if (folder / "recipe.yaml").exists():
        raise CheckpointError(
            f"{folder}: this run has no model yet; let `glassformer train` reach its first evaluation"
        )
    return folder
