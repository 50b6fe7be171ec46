"""The configuration of an image that a build has made: its layers, its history and its times."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sampan.names.times import format_rfc3339_nano
from sampan.oci.image import History, ImageConfig, RootFS
from sampan.solver.layers import Layer


def completed(config: ImageConfig, layers: Sequence[Layer], epoch_ns: int | None) -> ImageConfig:
    """The configuration with its layers and times; history has one line per layer.

    What was not made now is not said to be: a step's time is when its files were made, so that an image whose steps were all there
    already is the same image. `epoch_ns` instead is the time of all that has none.
    """
    document = msgspec.convert(msgspec.to_builtins(config), ImageConfig)
    document.rootfs = RootFS(diff_ids=[each.diff_id for each in layers])
    document.history = _dated(_matching(document.history, len(layers)), layers, epoch_ns)
    document.created = (
        document.history[-1].created if document.history else format_rfc3339_nano(epoch_ns or 0)
    )
    return document


def _matching(given: Sequence[History], layers: int) -> list[History]:
    history = list(given)
    told = sum(not each.empty_layer for each in history)
    if told < layers:
        # What a graph has beyond what its frontend told of.
        history += [History(comment="buildkit.exporter.image.v0") for _ in range(layers - told)]
    spare = told - layers
    for number in range(len(history) - 1, -1, -1):
        if spare > 0 and not history[number].empty_layer:
            history[number] = msgspec.structs.replace(history[number], empty_layer=True)
            spare -= 1
    return history


def _dated(history: Sequence[History], layers: Sequence[Layer], epoch_ns: int | None) -> list[History]:
    """Lines without layers have the time of what is before them."""
    dated = []
    times = iter(each.created_ns for each in layers)
    last = format_rfc3339_nano(
        max((each.created_ns for each in layers), default=0) if epoch_ns is None else epoch_ns
    )
    for each in history:
        made = 0 if each.empty_layer else next(times, 0)
        if each.created:
            last = each.created
        elif epoch_ns is not None:
            last = format_rfc3339_nano(epoch_ns)
        elif made:
            last = format_rfc3339_nano(made)
        dated.append(msgspec.structs.replace(each, created=last))
    return dated
