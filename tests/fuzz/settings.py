"""How many damaged files of a kind are tried: a few among all tests, ten thousand with ``make fuzz``."""

from hypothesis import HealthCheck, settings

fuzz = settings(
    max_examples=10_000 if settings.get_current_profile_name() == "fuzz" else 40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
