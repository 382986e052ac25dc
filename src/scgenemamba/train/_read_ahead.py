"""Reading what comes next while the present is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Batch = TypeVar("Batch")

# one is enough on average, the others make up for batches that take longer
_BATCHES_AHEAD = 3


def read_ahead(batches: Iterator[Batch], n_ahead: int = _BATCHES_AHEAD) -> Iterator[Batch]:
    """The same batches, of which a thread reads up to ``n_ahead`` before they are asked for.

    Errors are raised where the batch is asked for. The thread ends with the iterator, also when it is left early.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="read_ahead") as thread:
        waiting = deque(thread.submit(next, batches, end) for _ in range(n_ahead))
        try:
            while (batch := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, batches, end))
                yield batch  # type: ignore[misc]
        finally:
            for future in waiting:
                future.cancel()
