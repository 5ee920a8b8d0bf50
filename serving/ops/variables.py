"""Every environment variable that counts, out of the models that read them: the table in docs/operations.md.

`python -m serving.ops.variables` prints it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from cluster.core.settings import S3, MLflow, Ray, Shared, Variables
from serving.settings import Settings

_GROUPS: dict[str, type[Variables]] = {
    "Shared by all": Shared,
    "Storage in a bucket": S3,
    "MLflow": MLflow,
    "Ray": Ray,
    "The render service": Settings,
}


@dataclass(frozen=True)
class Variable:
    """One variable. `default` as it would be written in the environment; empty where there is none."""

    name: str
    default: str
    description: str
    group: str


def known_variables() -> dict[str, Variable]:
    """All of them by name, in the table's order."""
    found: dict[str, Variable] = {}
    for group, model in _GROUPS.items():
        for field, info in model.model_fields.items():
            name = model.variable(field)
            if name not in found:
                found[name] = Variable(name, _shown(info.default), info.description or "", group)
    return found


def _shown(default: Any) -> str:
    if default is None or default == frozenset():
        return ""
    return str(default) if isinstance(default, str | Path) else json.dumps(default)


def _row(variable: Variable) -> str:
    default = f"`{variable.default}`" if variable.default else ""
    return f"| `{variable.name}` | {default} | {variable.description} |"


def settings_table() -> str:
    """Markdown: one table for each group."""
    variables = known_variables().values()
    parts = []
    for group in _GROUPS:
        rows = [_row(variable) for variable in variables if variable.group == group]
        parts.append("\n".join([f"**{group}**", "", "| variable | default | |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    typer.echo(settings_table(), nl=False)
