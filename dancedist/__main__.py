"""Entry point of `python -m dancedist`."""

from dancedist.cli import main

main()
