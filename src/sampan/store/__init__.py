"""The metadata database: one SQLite file, one writer, group commit."""

from sampan.store.database import Database
from sampan.store.schema import Schema

__all__ = ["Database", "Schema"]
