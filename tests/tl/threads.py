from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def with_threads(run: Callable[[], Any], counts: tuple[int, ...] = (1, 2)) -> list[Any]:
    """What a function returns with each number of threads."""
    before, found = torch.get_num_threads(), []
    try:
        for n_threads in counts:
            torch.set_num_threads(n_threads)
            found.append(run())
    finally:
        torch.set_num_threads(before)
    return found
