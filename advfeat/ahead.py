"""What is computed while something else goes on: the next few results in a pool, or one in a thread."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from queue import Queue
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


def consumed_meanwhile(items: Iterable[Item], consume: Callable[[Iterator[Item]], Result]) -> Result:
    """Let a thread consume items while the next one is computed here; return what consuming them gives.

    One item waits at most. Raises what computing or consuming raises; neither goes on for long without the
    other.
    """
    handed: Queue[tuple[Item, ...]] = Queue(1)
    given_up = threading.Event()

    def arriving() -> Iterator[Item]:
        while item := handed.get():
            yield item[0]

    def work() -> Result:
        arrived = arriving()
        try:
            return consume(arrived)
        except BaseException:
            given_up.set()
            raise
        finally:
            for _ in arrived:  # nobody waits to hand over what nobody takes
                pass

    thread, result = begun(work, "consuming", daemon=True)
    try:
        for item in items:
            if given_up.is_set():
                break
            handed.put((item,))
    finally:
        handed.put(())
        thread.join()
    return result.result()


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
