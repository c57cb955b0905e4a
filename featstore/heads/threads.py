"""One thread for each matrix product: the same bits on any number of cores.

Threads of a product also wait for each other: where other programs use the cores too, or a matrix is narrow, a product
on two threads was measured to take up to twenty times as long as on one. What is worth sharing is shared by rows.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["one_thread"]

_lock = threading.Lock()
_inside = 0
_limited: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """While inside, every BLAS call of this process runs on the thread that makes it. May be nested and shared."""
    global _inside, _limited
    with _lock:
        _inside += 1
        if _inside == 1:
            _limited = _controller().limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limited.restore_original_limits()


@functools.cache
def _controller() -> Any:
    # Looking for the libraries takes milliseconds; numpy's, which is all that is used here, is loaded by now.
    import numpy  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
