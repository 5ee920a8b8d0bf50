"""A Ray of the tests' own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def own_ray(num_cpus: int, env: dict[str, str] | None = None) -> Iterator[None]:
    """One of this process alone, whatever cluster another test has left its address of; its workers have `env`."""
    try:
        ray.init(
            "local",
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": env} if env else None,
        )
        yield
    finally:
        # Where its start failed half-way, too: all later tests would fail at theirs.
        ray.shutdown()
