"""The vocabulary of names: image references, digests, platforms, container names, sizes and times.

Everything here is pure: text in, value out, no file, no socket. Importable from any layer.
"""
