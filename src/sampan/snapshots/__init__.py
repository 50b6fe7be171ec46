"""Snapshots: the root file systems of containers and images, as a tree of layers.

Start with `sampan.snapshots.interface`. `overlay` is the implementation, `copy` the one for file systems that
can't carry overlay, `probe` decides between them.
"""
