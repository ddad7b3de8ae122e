"""Decoding and drawing on all cores, in order, with a bounded number of images in flight.

Threads, not processes: Pillow and numpy let go of the interpreter lock where the time goes (two threads
decode as fast as two processes), and threads leave nothing behind for Ray to inherit. Drawing does not let go of it:
there each thread has a process, see duel.faces.drawn.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """The cores this process may use; beyond 32 the interpreter lock is the limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 32)


def in_order(
    work: Callable[[list[Item]], list[Result]], items: Iterable[Item], batch: int, workers: int | None
) -> Iterator[Result]:
    """Yield work's results in the order of items; work gets lists of at most `batch` items."""
    workers = workers or default_workers()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="faces")
    pending: deque[Future[list[Result]]] = deque()
    try:
        source = iter(items)
        while chunk := list(islice(source, batch)):
            pending.append(pool.submit(work, chunk))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
