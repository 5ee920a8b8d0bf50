"""The rules fire when they should, and only then; as promtool reckons them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.promql import DASHBOARDS, rules

HERE = Path(__file__).parent


def promtool(*words: str | Path) -> str:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    done = subprocess.run(["promtool", *map(str, words)], cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_and_configuration_are_valid() -> None:
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", DASHBOARDS / "alerts.yaml")
    promtool("check", "config", "--syntax-only", DASHBOARDS / "prometheus.yml")


def test_every_rule_fires_and_is_silent_as_the_cases_say() -> None:
    cases = yaml.safe_load((HERE / "alerts.yaml").read_text())["tests"]
    expected = [alert for case in cases for alert in case["alert_rule_test"]]
    for fires in (True, False):
        named = {alert["alertname"] for alert in expected if bool(alert.get("exp_alerts")) == fires}
        assert named == {rule["alert"] for rule in rules()}
    promtool("test", "rules", HERE / "alerts.yaml")
