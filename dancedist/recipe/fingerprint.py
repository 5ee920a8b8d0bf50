"""Keys of finished work. The same inputs, settings and code versions give the same key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def fingerprint(*parts: BaseModel | str | int | float | None) -> str:
    """Fingerprint, 16 hex digits, of everything that determines a result; callers pass nothing else.

    Field names of models are hashed too; renamed recipe fields are hashed under their old names (schema.py).
    """
    plain = [p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def repr_as(class_name: str, value: DataclassInstance) -> str:
    """`repr` of a dataclass with another class name, for keys that contain the old name of a renamed class."""
    arguments = ", ".join(f"{f.name}={getattr(value, f.name)!r}" for f in fields(value))
    return f"{class_name}({arguments})"
