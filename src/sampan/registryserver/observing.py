"""What others are told: notifications (webhooks in distribution's form) and metrics (Prometheus' text)."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import uuid
from collections import Counter, deque
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec

from sampan.errors import InvalidParameter
from sampan.registryserver.configuration import seconds

log = logging.getLogger("sampan.registry")

EVENTS_TYPE = "application/vnd.docker.distribution.events.v1+json"
_QUEUE_MAX = 10_000
_BATCH = 100


class Webhook:
    """One endpoint. Events wait in a queue, are sent in order, and again after a pause when it does not take them."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """`settings` as in `notifications.endpoints`. Raises `InvalidParameter`."""
        self._url = str(settings.get("url") or "")
        if not self._url.startswith(("http://", "https://")):
            raise InvalidParameter(
                f"configuration: notifications: {settings.get('name')!r} has no usable url"
            )
        self._name = str(settings.get("name") or self._url)
        given = settings.get("headers") or {}
        self._headers = {str(key): ", ".join(map(str, value)) for key, value in given.items()}
        self._timeout = seconds(settings.get("timeout") or "1s")
        self._backoff = seconds(settings.get("backoff") or "1s")
        self._ignored = set((settings.get("ignore") or {}).get("actions") or [])
        self._queue: deque[dict[str, Any]] = deque(maxlen=_QUEUE_MAX)
        self._filled = asyncio.Event()
        self._source = {"addr": socket.gethostname(), "instanceID": str(uuid.uuid4())}

    def happened(self, action: str, name: str, digest: str, size: int, tag: str, user: str) -> None:
        if action in self._ignored:
            return
        target: dict[str, Any] = {"repository": name, "digest": digest, "size": size, "length": size}
        if tag:
            target["tag"] = tag
        self._queue.append(
            {
                "id": str(uuid.uuid4()),
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "action": action,
                "target": target,
                "request": {},
                "actor": {"name": user} if user else {},
                "source": self._source,
            }
        )
        self._filled.set()

    async def run(self) -> None:
        """Send, for as long as the task lives."""
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await self._filled.wait()
                self._filled.clear()
                while self._queue:
                    batch = [self._queue[number] for number in range(min(_BATCH, len(self._queue)))]
                    if await self._send(session, batch):
                        for _ in batch:
                            self._queue.popleft()
                    else:
                        await asyncio.sleep(self._backoff)

    async def _send(self, session: aiohttp.ClientSession, batch: list[dict[str, Any]]) -> bool:
        body = msgspec.json.encode({"events": batch})
        headers = {**self._headers, "Content-Type": EVENTS_TYPE}
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                if 200 <= response.status < 400:
                    return True
                log.warning("notifications to %s: answer %d", self._name, response.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("notifications to %s: %s", self._name, error or type(error).__name__)
        return False


class Metrics:
    """Counters, in Prometheus' text form."""

    def __init__(self) -> None:
        self._actions: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds = 0.0
        self._started = time.time()

    def happened(self, action: str, name: str, digest: str, size: int, tag: str, user: str) -> None:
        self._actions[action] += 1
        self._bytes[action] += size

    def answered(self, method: str, status: int, duration: float) -> None:
        """A request was answered."""
        self._requests[method, status] += 1
        self._seconds += duration

    def text(self) -> str:
        """The page that Prometheus reads."""
        lines = ["# TYPE registry_http_requests_total counter"]
        for (method, status), count in sorted(self._requests.items()):
            lines.append(f'registry_http_requests_total{{method="{method.lower()}",code="{status}"}} {count}')
        lines.append("# TYPE registry_http_request_duration_seconds_sum counter")
        lines.append(f"registry_http_request_duration_seconds_sum {self._seconds:.6f}")
        for name, counter in (
            ("registry_actions_total", self._actions),
            ("registry_bytes_total", self._bytes),
        ):
            lines.append(f"# TYPE {name} counter")
            lines += [f'{name}{{action="{action}"}} {count}' for action, count in sorted(counter.items())]
        lines.append("# TYPE process_start_time_seconds gauge")
        lines.append(f"process_start_time_seconds {self._started:.3f}")
        return "\n".join(lines) + "\n"
