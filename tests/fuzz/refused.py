"""What must come of a file that cannot be used: a result, or one of our errors, of one line."""

from collections.abc import Callable

from advfeat.errors import AdvfeatError


def refused_in_a_line(read: Callable[[], object]) -> None:
    """Read something; what is wrong with it may be told by an error of ours, of one line."""
    message = ""
    try:
        read()
    except AdvfeatError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 2000
