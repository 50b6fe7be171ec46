"""gRPC over a connection that is open already, in both roles.

A client of BuildKit's protocol opens a connection that HTTP/1.1 handed over, and on its second one (the session) it is the server.
grpclib speaks gRPC on any asyncio transport; this package gives it accepted and handed-over ones, services from descriptors, and
errors that cross the wire with their details.

| module | subject |
| --- | --- |
| `connection` | HTTP/2 on one transport |
| `server` | services, and the connections that reach them |
| `client` | calls on a connection whose other end serves |
| `tunnel` | a connection whose bytes travel in a stream's messages |
| `errors` | Sampan's errors as statuses, and back |
"""
