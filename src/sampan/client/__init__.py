"""The Engine API from Python: sync, small, standard library only.

    import sampan

    with sampan.connect() as engine:
        print(engine.run("busybox", ["echo", "hi"]).output)

`engine` is what programs use (`sampan.connect` is its `connect`), `api` is requests and answers beneath it, `endpoint` finds the
engine, `autostart` starts one when none answers. Nothing is imported from here: the command line needs only some of them.
"""
