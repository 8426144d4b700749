"""Prefect's settings, written out once for all the tasks of a run.

Prefect sends its settings with every task and writes them out anew for each, which is most of what
submitting a task costs: 30 ms of 50.
"""

from functools import cached_property
from typing import Any

from prefect.context import SettingsContext


class ConstantSettings(SettingsContext):
    """The settings of this context, which do not change while it is entered."""

    @cached_property
    def _written(self) -> dict[str, Any]:
        return super().serialize()

    def serialize(self, include_secrets: bool = True) -> dict[str, Any]:
        """Return the settings as plain values; they are written out the first time."""
        return self._written if include_secrets else super().serialize(include_secrets=False)


def constant_settings() -> ConstantSettings:
    """Return the settings that are in force now, as a context to enter."""
    now = SettingsContext.get()
    assert now is not None, "Prefect always has settings"
    return ConstantSettings(profile=now.profile, settings=now.settings)
