"""The one place that holds Sampan's version."""

__version__ = "0.1.0"
