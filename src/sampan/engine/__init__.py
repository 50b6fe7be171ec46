"""The composition root: opens the stores, wires the services, recovers after a crash, shuts down in order."""
