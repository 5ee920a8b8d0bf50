"""A Ray of the test process alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def own_ray(num_cpus: int, env: dict[str, str] | None = None) -> Iterator[None]:
    """Run a local Ray in the block, even if RAY_ADDRESS names another cluster; its workers get `env`."""
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
        # Also after a failed start, or all later starts would fail.
        ray.shutdown()
