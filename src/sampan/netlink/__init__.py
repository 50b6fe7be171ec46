"""Raw, batched rtnetlink: links, addresses, routes and neighbours without a library in between."""
