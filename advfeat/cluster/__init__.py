"""A whole cluster on one machine, as real processes under a supervisor.

``layout.py`` says what lies where and holds the credentials, ``services.py`` which programs there are
and when each is healthy, ``supervisor.py`` starts and stops them, ``control.py`` is up, down, status.
"""
