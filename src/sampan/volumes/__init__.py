"""Volumes: data that outlives containers. `interface` is the seam, `service` the one implementation.

Importing the package loads nothing: workers import `trees` and `copyup` from it, and each pays for what is loaded.
"""
