"""Security headers for every response, and whose address a request came from.

Pages load nothing from elsewhere and run no script; their one style block carries the response's nonce.
The API's answers and everything that was not marked otherwise are never stored by a cache.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Iterable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SecurityHeaders:
    """Outermost middleware: what no view may forget."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        nonce = secrets.token_urlsafe(16)
        request.csp_nonce = nonce  # type: ignore[attr-defined]
        response = self.get_response(request)
        for name, value in _FIXED.items():
            response.setdefault(name, value)
        if settings.SESSION_COOKIE_SECURE:
            response.setdefault("Strict-Transport-Security", "max-age=31536000")
        response.setdefault(
            "Content-Security-Policy",
            "default-src 'none'; img-src 'self'; form-action 'self'; base-uri 'none'; "
            f"frame-ancestors 'none'; style-src 'nonce-{nonce}'",
        )
        return response


_FIXED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # "no-referrer" makes browsers send "Origin: null" with our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "interest-cohort=()",
    "Cache-Control": "no-store",
}


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks from addresses and CIDRs. Raises ValueError."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def client_address(peer: str, forwarded_for: str, proxies: tuple[Network, ...]) -> str:
    """The address that a request came from: the nearest one that is not a trusted proxy.

    X-Forwarded-For counts only as far as trusted proxies wrote it, so it is read from its end; whatever a
    client put in front of that is never looked at. An entry that is no address ends the reading.
    """
    chain = (
        [peer, *(part.strip() for part in reversed(forwarded_for.split(",")))] if forwarded_for else [peer]
    )
    found = peer
    for text in chain:
        try:
            address = plain_ip(text)
        except ValueError:
            break
        found = str(address)
        if not any(address in network for network in proxies):
            break
    return found


def plain_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address, with IPv4 in IPv6 (::ffff:192.0.2.1) as IPv4. Raises ValueError."""
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def peer_address(request: HttpRequest) -> str:
    """Whose address this is for logs and limits."""
    meta, proxies = request.META, settings.TRUSTED_PROXIES
    return client_address(meta.get("REMOTE_ADDR", ""), meta.get("HTTP_X_FORWARDED_FOR", ""), proxies)


def trusted_address(request: HttpRequest) -> str | None:
    """The address that may stand for somebody; None where it may be a stranger's.

    A request that was forwarded, but not by a proxy that we know, has its proxy's address: whoever trusts
    127.0.0.1 would then trust the whole world.
    """
    meta, proxies = request.META, settings.TRUSTED_PROXIES
    peer, forwarded = meta.get("REMOTE_ADDR", ""), meta.get("HTTP_X_FORWARDED_FOR", "")
    if not forwarded:
        return None if meta.get("HTTP_FORWARDED") or meta.get("HTTP_X_REAL_IP") else peer
    found = client_address(peer, forwarded, proxies)
    return None if found == str(plain_ip(peer)) else found
