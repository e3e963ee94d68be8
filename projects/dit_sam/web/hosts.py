"""The address at which the page listens, and the names by which it may be called."""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from ..errors import InputError

LOCAL_NAMES = ('localhost', '127.0.0.1', '::1')
Send = Callable[[dict[str, Any]], Awaitable[None]]


def check_address(host: str, port: int | None) -> None:
    """Check that the page can be served, because Gradio would wait forever if it cannot listen.

    Raises:
        InputError: This machine has no such address, or the port is taken.
    """
    if '%' in host:
        raise InputError(f'--host {host}: Gradio takes no address with a zone; name one without %')
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        socket.create_server((host, port or 0), family=family).close()
    except (OSError, UnicodeError) as error:
        raise InputError(
            f'{host}, port {port or "any"}, cannot be served: {getattr(error, "strerror", "") or error}; '
            'name another --host or --port'
        ) from error


def bracketed(host: str) -> str:
    """A host as it is in an address: IPv6 in brackets."""
    return f'[{host}]' if ':' in host else host


def allowed_names(host: str) -> set[str] | None:
    """The names by which a page that listens on `host` may be called; None if other machines can open it."""
    addresses = {found[4][0] for found in socket.getaddrinfo(host, None)}
    if not all(ipaddress.ip_address(address).is_loopback for address in addresses):
        return None
    return {host.lower(), *LOCAL_NAMES}


def name_in(header: str) -> str:
    """The name in a Host header, without port and brackets, in small letters."""
    name = header.strip().lower()
    return name[1:].partition(']')[0] if name.startswith('[') else name.partition(':')[0]


class CheckHost:
    """ASGI middleware that answers only requests which call the page by one of `names`.

    Otherwise a site in the visitor's browser could read the page: it lets its own name point to this machine
    (DNS rebinding), and is then of the same origin. Older versions of Starlette's own middleware read no IPv6.
    """

    def __init__(self, app: Callable, names: Collection[str]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Send) -> None:
        hosts = [value.decode('latin-1') for key, value in scope.get('headers', ()) if key == b'host']
        called = scope['type'] in ('http', 'websocket')
        if not called or (len(hosts) == 1 and name_in(hosts[0]) in self.names):
            await self.app(scope, receive, send)
        elif scope['type'] == 'websocket':
            await send(dict(type='websocket.close', code=1008))
        else:
            text = b'This page is only for this machine: open it at localhost. --host lets others open it.\n'
            headers = [(b'content-type', b'text/plain'), (b'content-length', str(len(text)).encode())]
            await send(dict(type='http.response.start', status=400, headers=headers))
            await send(dict(type='http.response.body', body=text))
