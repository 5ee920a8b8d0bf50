"""All environment variables, collected from the models that read them: the table in docs/operations/settings.md.

`python -m serving.ops.variables` prints the table.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from cluster.core.settings import EnvironmentSettings, MLflowSettings, RaySettings, S3Settings, SharedSettings
from serving.settings import Settings

_GROUPS: dict[str, type[EnvironmentSettings]] = {
    "Shared by all": SharedSettings,
    "Storage in a bucket": S3Settings,
    "MLflow": MLflowSettings,
    "Ray": RaySettings,
    "The render service": Settings,
}


@dataclass(frozen=True)
class Variable:
    """An environment variable. `default` is written as in the environment; empty if there is none."""

    name: str
    default: str
    description: str
    group: str


def known_variables() -> dict[str, Variable]:
    """All variables by name, in the order of the table."""
    variables: dict[str, Variable] = {}
    for group, model in _GROUPS.items():
        for field, info in model.model_fields.items():
            name = model.env_name(field)
            if name not in variables:
                variables[name] = Variable(name, _environment_text(info.default), info.description or "", group)
    return variables


def _environment_text(default: Any) -> str:
    if default is None or default == frozenset():
        return ""
    return str(default) if isinstance(default, str | Path) else json.dumps(default)


def _row(variable: Variable) -> str:
    default = f"`{variable.default}`" if variable.default else ""
    return f"| `{variable.name}` | {default} | {variable.description} |"


def settings_table() -> str:
    """The variables as Markdown: one table per group."""
    variables = known_variables().values()
    tables = []
    for group in _GROUPS:
        rows = [_row(variable) for variable in variables if variable.group == group]
        tables.append("\n".join([f"**{group}**", "", "| variable | default | |", "|---|---|---|", *rows]))
    return "\n\n".join(tables) + "\n"


if __name__ == "__main__":
    typer.echo(settings_table(), nl=False)
