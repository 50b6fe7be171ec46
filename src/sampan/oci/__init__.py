"""The OCI's formats as types: `image` (msgspec, the engine's) and `runtime` (TypedDicts, the shim's)."""
