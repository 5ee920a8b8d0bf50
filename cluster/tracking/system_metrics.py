"""System metrics of the driver's machine, by MLflow's monitors, logged like other metrics."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

log = logging.getLogger("dancedist")
SAMPLE_EVERY_S = 10.0


class SystemMetrics(threading.Thread):
    """Samples until `stop`. MLflow's own thread would bypass the outbox and end at the first failed request."""

    def __init__(self, log_metrics: Callable[[Sequence[Mapping[str, float]]], None], started_s: float) -> None:
        super().__init__(name="system-metrics", daemon=True)
        self._log_metrics, self._started_s = log_metrics, started_s
        self._stopping = threading.Event()

    def run(self) -> None:
        """See Thread."""
        monitors = _monitors()
        while not self._stopping.wait(MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or SAMPLE_EVERY_S):
            values: dict[str, float] = {}
            for monitor in monitors:
                monitor.collect_metrics()
                values |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            # Seconds since the run started, so that the steps of the next process continue from here.
            step = int(time.time() - self._started_s)
            self._log_metrics([{"step": step, **{f"system/{name}": value for name, value in values.items()}}])

    def stop(self) -> None:
        """Stop sampling."""
        self._stopping.set()


def _monitors() -> list[BaseMetricsMonitor]:
    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        monitors.append(GPUMonitor())
    except (RuntimeError, ImportError, MlflowException) as error:
        log.debug("no GPU to monitor: %s", error)
    return monitors
