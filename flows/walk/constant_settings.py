"""Prefect's settings, sent with the tasks of a run as they are.

Prefect sends its settings with every task: it writes them out as plain values, 30 ms of the 50 that
submitting a task costs, and the worker reads them all anew, 10 to 20 ms of each task.
"""

from typing import Any

from prefect.context import SettingsContext


class ConstantSettings(SettingsContext):
    """The settings of this context, which do not change while it is entered."""

    def serialize(self, include_secrets: bool = True) -> dict[str, Any]:
        """Return the settings themselves, which a worker takes as they are; without secrets, plain values."""
        if not include_secrets:
            return super().serialize(include_secrets=False)
        return {"profile": self.profile, "settings": self.settings}


def constant_settings() -> ConstantSettings:
    """Return the settings that are in force now, as a context to enter."""
    now = SettingsContext.get()
    assert now is not None, "Prefect always has settings"
    return ConstantSettings(profile=now.profile, settings=now.settings)
