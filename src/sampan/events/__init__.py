"""What happens in the engine, as Docker's events: published by services, streamed to clients."""

from sampan.events.bus import Event, EventBus

__all__ = ["Event", "EventBus"]
