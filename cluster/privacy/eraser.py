"""Interface to find and erase a person's data that other packages store, such as the service's renders."""

from __future__ import annotations

from typing import Protocol

from dancedist.errors import DancedistError


class RendersUnreached(DancedistError):
    """The database of renders cannot be reached."""

    slug = "renders-unreached"


class Eraser(Protocol):
    """Finds and erases data of a dancer. Methods are idempotent and raise DancedistError if they cannot complete."""

    def find(self, dancer: str) -> dict[str, list[str]]:
        """List a dancer's data by kind, as text for the report."""

    def erase(self, dancer: str) -> None:
        """Erase a dancer's data; does nothing if there is none."""
