"""Clients that are not ours, unmodified, against a Sampan engine: `bin/test clients`."""
