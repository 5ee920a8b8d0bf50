"""Motion transfer after "Everybody Dance Now": learn a dancer from stick figures, render another's dance."""

__version__ = "0.1.0"
