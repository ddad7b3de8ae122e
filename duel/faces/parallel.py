"""Decoding and drawing on all cores, in order, with a bounded number of images in flight.

Threads, not processes: Pillow and numpy let go of the interpreter lock where the time goes (two threads
decode as fast as two processes), and threads leave nothing behind for Ray to inherit. Drawing does not let go of it:
there each thread has a process, see duel.faces.drawn.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from duel.faces.limits import MAXIMUM_ENCODED

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """The cores this process may use; beyond 32 the interpreter lock is the limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 32)


def in_order(
    work: Callable[[list[Item]], list[Result]],
    items: Iterable[Item],
    batch: int,
    workers: int | None,
    weigh: Callable[[Item], int] = lambda _: 0,
) -> Iterator[Result]:
    """Yield work's results in the order of items; work gets lists of at most `batch` items.

    weigh: the bytes that an item holds; together those in flight hold MAXIMUM_ENCODED, and what the last one adds.
    """
    workers = workers or default_workers()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="faces")
    pending: deque[tuple[Future[list[Result]], int]] = deque()
    held = 0
    try:
        source = iter(items)
        while chunk := _chunk(source, batch, weigh, MAXIMUM_ENCODED // (2 * workers + 1)):
            weight = sum(map(weigh, chunk))
            pending.append((pool.submit(work, chunk), weight))
            held += weight
            del chunk  # else its items would outlive their work
            while pending and (len(pending) > 2 * workers or held > MAXIMUM_ENCODED):
                done, weight = pending.popleft()
                yield from done.result()
                held -= weight
        while pending:
            yield from pending.popleft()[0].result()
    finally:
        pool.shutdown(cancel_futures=True)


def _chunk(source: Iterator[Item], batch: int, weigh: Callable[[Item], int], most: int) -> list[Item]:
    """The next `batch` items, or fewer when they weigh `most`."""
    chunk: list[Item] = []
    weight = 0
    for item in source:
        chunk.append(item)
        weight += weigh(item)
        if len(chunk) == batch or weight >= most:
            break
    return chunk
