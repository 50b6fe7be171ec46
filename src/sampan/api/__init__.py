"""Docker's Engine API over HTTP: parse at the edge, call a service, format the answer.

`frontdoor` owns the connections, `router` the paths, `call` what a handler is given, `responses` and `errors` what goes back; the
other modules are the routes, one per subject of the API's documentation.
"""
