"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def every_backend() -> Iterator[list[str]]:
    """Names of the CPU backends of this machine; the one in use is restored afterwards."""
    from torch_ans import ops

    before = ops.cpu_backend()
    names = [before]
    for name in ("avx512", "avx2", "scalar"):
        try:
            if ops.cpu_backend(name) not in names:
                names.append(name)
        except ValueError:
            pass  # this machine lacks it
    ops.cpu_backend(before)
    yield names
    ops.cpu_backend(before)
