"""systemd as the keeper of cgroups: a container's is that of a transient scope, which systemd makes, knows and removes.

systemd is asked over D-Bus (org.freedesktop.systemd1(5)): by the system's bus or, for root where no bus runs, by the private socket
of systemd itself. Jeepney knows the protocol, this module the few calls. Only a runtime called with `--systemd-cgroup`
imports it.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

from jeepney import DBusAddress, HeaderFields, Message, MessageType, Parser, new_method_call
from jeepney.auth import BEGIN, AuthenticationError, Authenticator
from jeepney.bus_messages import MatchRule, message_bus

from sampan.cgroups.interface import CgroupError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

Property = tuple[str, tuple[str, Any]]
"""Name, D-Bus signature and value, as systemd takes properties."""

_RUNNING = "/run/systemd/system"
_SYSTEM_BUS = "/run/dbus/system_bus_socket"
_PRIVATE = "/run/systemd/private"
_MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"
)
_OF_JOBS = MatchRule(
    type="signal", sender=_MANAGER.bus_name, interface=_MANAGER.interface, member="JobRemoved"
)
_SECONDS = 30.0
"""For any one call, its job included."""
_NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
_UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"


class SystemdError(CgroupError):
    """systemd has refused something; `name` is the D-Bus error's."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


def is_running() -> bool:
    """Whether systemd is this machine's first process (sd_booted(3))."""
    return os.path.isdir(_RUNNING)


class Systemd:
    """A connection, for a `with` block. All methods raise SystemdError, within half a minute."""

    def __enter__(self) -> Self:
        """Raises SystemdError when systemd does not run here, or does not talk to this user."""
        if not is_running():
            raise SystemdError("systemd not running on this host, cannot use systemd cgroups manager")
        self._parser = Parser()
        self._serial = 0
        self._signals: list[Message] = []
        self._deadline = time.monotonic() + _SECONDS
        self._socket, on_bus = _connect()
        try:
            if on_bus:
                self._call(message_bus.Hello())
                self._call(message_bus.AddMatch(_OF_JOBS))
            self._manager("Subscribe")
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def start_scope(self, unit: str, properties: Sequence[Property]) -> None:
        """Make a transient scope; returns when it runs, the processes of its property `PIDs` in its cgroup."""
        arguments: tuple[Any, ...] = (unit, "replace", list(properties), [])
        try:
            job = self._manager("StartTransientUnit", "ssa(sv)a(sa(sv))", arguments)[0]
        except SystemdError as error:
            if error.name != _UNIT_EXISTS:
                raise
            # What has failed under this name is remembered until it is reset; what still runs is refused again.
            self._manager("ResetFailedUnit", "s", (unit,))
            job = self._manager("StartTransientUnit", "ssa(sv)a(sa(sv))", arguments)[0]
        self._wait(job, f"start of {unit}")

    def set_properties(self, unit: str, properties: Sequence[Property]) -> None:
        """Change limits, until the machine's next start or the unit's end."""
        self._manager("SetUnitProperties", "sba(sv)", (unit, True, list(properties)))

    def stop(self, unit: str) -> None:
        """End the unit and forget it; one that is not there is no error."""
        try:
            job = self._manager("StopUnit", "ss", (unit, "replace"))[0]
            self._wait(job, f"stop of {unit}")
            self._manager("ResetFailedUnit", "s", (unit,))
        except SystemdError as error:
            if error.name != _NO_SUCH_UNIT:
                raise

    def _manager(self, method: str, signature: str | None = None, arguments: tuple[Any, ...] = ()) -> Any:
        self._deadline = time.monotonic() + _SECONDS
        return self._call(new_method_call(_MANAGER, method, signature, arguments))

    def _call(self, message: Message) -> Any:
        """The answer's values."""
        self._serial += 1
        self._send(message.serialise(serial=self._serial))
        for answer in self._messages():
            kind, fields = answer.header.message_type, answer.header.fields
            if kind is MessageType.signal:
                self._signals.append(answer)
            elif fields.get(HeaderFields.reply_serial) == self._serial:
                if kind is MessageType.error:
                    name = str(fields.get(HeaderFields.error_name, ""))
                    raise SystemdError(f"systemd: {answer.body[0] if answer.body else name}", name)
                return answer.body
        raise SystemdError("systemd: the connection has ended")

    def _wait(self, job: str, what: str) -> None:
        """For the signal that a job has been done."""
        told = iter(self._signals)
        while True:
            signal = next(told, None)
            if signal is None:
                signal = next(self._messages())
            fields = signal.header.fields
            if fields.get(HeaderFields.member) == "JobRemoved" and signal.body[1] == job:
                break
        self._signals.clear()
        if signal.body[3] != "done":
            raise SystemdError(f"systemd: {what}: {signal.body[3]}")

    def _messages(self) -> Iterator[Message]:
        while True:
            message = self._parser.get_next_message()
            while message is None:
                self._parser.add_data(self._receive())
                message = self._parser.get_next_message()
            yield message

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(max(self._deadline - time.monotonic(), 0.01))
            self._socket.sendall(data)
        except OSError as error:
            raise SystemdError(f"systemd: {error}") from error

    def _receive(self) -> bytes:
        try:
            self._socket.settimeout(max(self._deadline - time.monotonic(), 0.01))
            data = self._socket.recv(65536)
        except TimeoutError:
            raise SystemdError(f"systemd has not answered within {_SECONDS:g} s") from None
        except OSError as error:
            raise SystemdError(f"systemd: {error}") from error
        if not data:
            raise SystemdError("systemd: the connection has ended")
        return data


def _connect() -> tuple[socket.socket, bool]:
    """An authenticated connection, and whether it is a bus's. Raises SystemdError."""
    failures = []
    for path in (_SYSTEM_BUS, _PRIVATE) if os.geteuid() == 0 else (_SYSTEM_BUS,):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_SECONDS)
            connection.connect(path)
            _authenticate(connection)
        except (OSError, AuthenticationError) as error:
            connection.close()
            failures.append(f"{path}: {getattr(error, 'strerror', None) or error}")
        else:
            return connection, path == _SYSTEM_BUS
    raise SystemdError(f"systemd cannot be reached: {'; '.join(failures)}")


def _authenticate(connection: socket.socket) -> None:
    """The kernel tells the peer who we are; the rest is a dialogue of lines."""
    dialogue = Authenticator(inc_null_byte=True)
    for line in dialogue:
        connection.sendall(line)
        answer = connection.recv(1024)
        if not answer:
            raise AuthenticationError(b"", "the connection has ended")
        dialogue.feed(answer)
    connection.sendall(BEGIN)
