"""The Engine API from Python: sync, small, standard library only.

    import sampan

    with sampan.connect() as engine:
        print(engine.run("busybox", ["echo", "hi"]).output)

`connect` finds the engine (see `sampan.client.endpoint`) and starts one when none answers.
"""

from sampan.client.engine import Engine, connect

__all__ = ["Engine", "connect"]
