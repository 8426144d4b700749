"""Results computed while who uses them does something else: the next few in a pool, or one in a thread."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def computed_ahead(function: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Yield the function of each item, in order; those of the next ``ahead`` items are computed meanwhile.

    Raises what the function raises.
    """
    with ThreadPoolExecutor(ahead) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def begun(compute: Callable[[], Result], name: str, daemon: bool) -> tuple[threading.Thread, Future[Result]]:
    """Begin to compute in a thread of its own, in this context; return it, and what holds its result.

    A pool's threads are waited for when the interpreter ends; a ``daemon`` holds nothing up.
    """
    result: Future[Result] = Future()

    def work() -> None:
        try:
            result.set_result(compute())
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=copy_context().run, args=(work,), name=name, daemon=daemon)
    thread.start()
    return thread, result
