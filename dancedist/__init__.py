"""Motion transfer after "Everybody Dance Now": train a dancer on videos of a person and render it in any dance."""

__version__ = "0.1.0"
