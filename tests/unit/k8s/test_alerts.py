"""The alert rules fire when they should, and only then, as evaluated by promtool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.promql import DASHBOARDS, rules

HERE = Path(__file__).parent


def promtool(*arguments: str | Path) -> str:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    result = subprocess.run(["promtool", *map(str, arguments)], cwd=HERE, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_rules_and_configuration_are_valid() -> None:
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", DASHBOARDS / "alerts.yaml")
    promtool("check", "config", "--syntax-only", DASHBOARDS / "prometheus.yml")


def test_every_rule_has_cases_that_fire_and_cases_that_do_not() -> None:
    cases = yaml.safe_load((HERE / "alerts.yaml").read_text())["tests"]
    expected = [alert for case in cases for alert in case["alert_rule_test"]]
    for fires in (True, False):
        named = {alert["alertname"] for alert in expected if bool(alert.get("exp_alerts")) == fires}
        assert named == {rule["alert"] for rule in rules()}
    promtool("test", "rules", HERE / "alerts.yaml")
