"""BuildKit's gRPC protocol: the face of the builder that `docker buildx`, Compose and `buildctl` talk to.

| module | subject |
| --- | --- |
| `door` | what the front door hands connections to; imports nothing of gRPC before the first |
| `server` | the services together |
| `control` | Control: workers, disk usage, prune, sessions, solves and their status, history |
| `gateway` | LLBBridge: what a frontend asks while a solve runs |
| `jobs` | the running solves by the client's name, their references and results |
| `frontends`, `exporting` | what makes a result of a request, and what becomes of it |
| `trees` | looking at a result's files |
| `status`, `steps`, `details`, `usage`, `history` | messages of what the solver tells, fails with and keeps; builds that were |
| `capabilities`, `workers` | what the builder says about itself |
| `session`, `waiting` | a client that can be asked: files, secrets, ssh, credentials; and how a solve waits for it |
| `filesync` | receiving a client's directory, only what changed |
| `small` | health checks and traces |
| `protos` | the messages, as they stand on the wire |
"""
