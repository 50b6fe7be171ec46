"""The types of Docker's Engine API, one module per subject, and how its JSON is read.

Field names are Docker's (`Cmd`, `HostConfig`); Python names are snake_case. `decode` reads as Go's encoding/json does.
"""
