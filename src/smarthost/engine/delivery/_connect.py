"""From a host name to a connected socket.

The name is resolved once a connection and the connection goes to one of those addresses, so what was checked
is what is used. Addresses are tried as RFC 8305 advises: IPv6 and IPv4 in turns, the next one started when
the last has not answered within a quarter of a second, so that a dead address never delays a live one. A
server that turns out to be this very process is refused: it would send mail to itself for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterable

from smarthost.engine.delivery._classify import Fault

STAGGER = 0.25
MOST_ADDRESSES = 8

Address = tuple[int, tuple[object, ...]]


class ConnectFailed(Exception):
    """No connection. `stage` is "dns" or "connect"; the text is for people."""

    def __init__(self, stage: str, text: str, fault: Fault) -> None:
        super().__init__(text)
        self.stage, self.text, self.fault = stage, text, fault


async def connect(
    host: str,
    port: int,
    timeout: float,  # noqa: ASYNC109 - one bound for all its steps
    own: Iterable[tuple[str, int]] = (),
) -> socket.socket:
    """Resolve and connect within `timeout` seconds. `own`: where this process listens.

    Raises ConnectFailed.
    """
    loop = asyncio.get_running_loop()
    stage = "dns"
    try:
        async with asyncio.timeout(timeout):
            addresses = await resolve(loop, host, port)
            refuse_own(addresses, port, own)
            stage = "connect"
            return await race(loop, addresses)
    except TimeoutError:
        what = f"The name {host} was not resolved" if stage == "dns" else f"{host}:{port} did not answer"
        fault = Fault.DNS if stage == "dns" else Fault.CONNECT
        raise ConnectFailed(stage, f"{what} within {timeout:g} seconds", fault) from None


async def resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Address]:
    """The addresses of `host`, families in turns, at most eight. An unknown name is a fault of the route."""
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        raise ConnectFailed("dns", f"The name {host} cannot be resolved: {error}", Fault.DNS) from None
    return in_turns([(int(family), tuple(address)) for family, _, _, _, address in found])[:MOST_ADDRESSES]


def in_turns(addresses: list[Address]) -> list[Address]:
    """Order as given within a family; the family of the first one begins, then in turns (RFC 8305 4)."""
    if not addresses:
        return []
    addresses = list(dict.fromkeys(addresses))
    first = [one for one in addresses if one[0] == addresses[0][0]]
    other = [one for one in addresses if one[0] != addresses[0][0]]
    mixed: list[Address] = []
    for place in range(max(len(first), len(other))):
        mixed.extend(first[place : place + 1])
        mixed.extend(other[place : place + 1])
    return mixed


def refuse_own(addresses: list[Address], port: int, own: Iterable[tuple[str, int]]) -> None:
    """Raise ConnectFailed where an address is one that this process listens on."""
    listening = [host for host, at in own if at == port]
    if not listening:
        return
    everywhere = any(host in ("", "0.0.0.0", "::") for host in listening)  # noqa: S104 - compared, not bound
    for _, address in addresses:
        text = str(address[0])
        if text in listening or (everywhere and _is_local(text)):
            raise ConnectFailed(
                "connect",
                f"{text} port {port} is this Smarthost itself: mail would go round for ever",
                Fault.CONFIG,
            )


def _is_local(text: str) -> bool:
    """Whether the address is one of this machine's: one that can be bound."""
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
        family = socket.AF_INET6 if parsed.version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((text, 0))
    except (OSError, ValueError):
        return False
    return True


async def race(loop: asyncio.AbstractEventLoop, addresses: list[Address]) -> socket.socket:
    """The first address that answers."""
    if not addresses:
        raise ConnectFailed("dns", "The name has no address", Fault.DNS)
    if len(addresses) == 1:
        return await _dial(loop, addresses[0], [])
    errors: list[str] = []
    tasks: set[asyncio.Task[socket.socket]] = set()
    winner: socket.socket | None = None
    waiting = list(addresses)
    try:
        while winner is None and (waiting or tasks):
            if waiting:
                tasks.add(asyncio.ensure_future(_dial(loop, waiting.pop(0), errors)))
            done, tasks = await asyncio.wait(
                tasks, timeout=STAGGER if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                if task.exception() is None:
                    if winner is None:
                        winner = task.result()
                    else:
                        task.result().close()
    finally:
        for task in tasks:
            task.cancel()
        for late in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(late, socket.socket):
                late.close()
    if winner is None:
        raise ConnectFailed("connect", "; ".join(errors), Fault.CONNECT)
    return winner


async def _dial(loop: asyncio.AbstractEventLoop, address: Address, errors: list[str]) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, where)
    except OSError as error:
        sock.close()
        errors.append(f"{where[0]} port {where[1]}: {error.strerror or error}")
        raise ConnectFailed("connect", errors[-1], Fault.CONNECT) from None
    except BaseException:
        sock.close()
        raise
    return sock
