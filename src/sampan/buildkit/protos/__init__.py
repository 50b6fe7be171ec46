"""The messages of BuildKit's protocol, as they stand on the wire; `bin/protos` compiles them."""
