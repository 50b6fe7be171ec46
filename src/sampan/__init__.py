"""Sampan: the container platform as one Python package.

`import sampan` is light: it loads nothing but this file until a name is used.
"""

from sampan.version import __version__

__all__ = ["__version__"]
