"""What flows are given besides what they run: a store, and limits; each looked at before all else."""

import os
from typing import Annotated, Any

from pydantic import Field

from advfeat.errors import InputError
from advfeat.storage import Store
from advfeat.storage.runs import LONGEST_NOTE


def shown(title: str, description: str) -> dict[str, Any]:
    """Return what Prefect's pages call a parameter of a flow: of a field it drops title and description."""
    return {"title": title, "description": description}


StoreURI = Annotated[
    str | None,
    Field(
        json_schema_extra=shown(
            "Store", "folder or fsspec URI; that of ADVFEAT_STORE where the flow runs if left out"
        )
    ),
]
StagesAtOnce = Annotated[
    int | None,
    Field(
        ge=1,
        le=100_000,
        json_schema_extra=shown(
            "Stages at once", "how many are computed at the same time; as many as fit if left out"
        ),
    ),
]
StageTimeout = Annotated[
    float | None,
    Field(
        gt=0,
        json_schema_extra=shown(
            "Time limit of a stage", "seconds after which it is given up; never if left out"
        ),
    ),
]

SMALLEST_SHARE = 0.01
"""Of a GPU that a stage may ask for."""

GPUsPerStage = Annotated[
    float | None,
    Field(
        ge=SMALLEST_SHARE,
        le=1,
        json_schema_extra=shown(
            "GPU of a stage",
            "how much of a GPU a stage asks for: with 0.25, four stages share one; a whole one, if the "
            "cluster has any, if left out; 1 waits for a node with a GPU where there is none yet",
        ),
    ),
]

Note = Annotated[
    str | None,
    Field(
        max_length=LONGEST_NOTE,
        json_schema_extra=shown("Note", "what you say of the run; advfeat runs shows it"),
    ),
]


def opened(uri: str | None) -> Store:
    """Return the store of a run; raises ``InputError`` if there is none that can be written."""
    found = uri or os.environ.get("ADVFEAT_STORE")
    if not found:
        raise InputError("store", uri, "is not a store", "give a URI, or set ADVFEAT_STORE where flows run")
    if not isinstance(found, str):
        raise InputError("store", uri, "is not a store", "give a path or s3://bucket/prefix")
    place = Store(found)
    place.check_writable()
    return place


def check_timeout(seconds: float | None) -> None:
    """Raise ``InputError`` for a limit in seconds that is none."""
    if seconds is not None and (not isinstance(seconds, int | float) or not seconds > 0):
        problem = "is not a number of seconds"
        raise InputError("stage_timeout_seconds", seconds, problem, "give one above 0, or leave it out")


def check_at_once(stages: int | None) -> None:
    """Raise ``InputError`` for a number of stages at the same time that is none."""
    if stages is not None and (not isinstance(stages, int) or stages < 1):
        raise InputError(
            "stages_at_once", stages, "is not a number of stages", "give 1 or more, or leave it out"
        )


def check_gpus_per_stage(share: float | None) -> None:
    """Raise ``InputError`` for a share of a GPU that is none."""
    if share is None:
        return
    is_number = isinstance(share, int | float) and not isinstance(share, bool)
    if not is_number or not SMALLEST_SHARE <= share <= 1:
        problem = "is not a share of one GPU, and a stage computes on one"
        raise InputError("gpus_per_stage", share, problem, f"give {SMALLEST_SHARE} to 1, or leave it out")


def check_note(note: str | None) -> None:
    """Raise ``InputError`` for a note that is none, or longer than a record keeps."""
    if note is None:
        return
    if not isinstance(note, str):
        raise InputError("note", note, "is not text", "give words, or leave it out")
    if len(note) > LONGEST_NOTE:
        problem = f"is {len(note):,} characters long, {LONGEST_NOTE} are kept"
        raise InputError("note", f"{note[:20]}…", problem, "say it in fewer")
