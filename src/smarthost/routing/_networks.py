"""Which application a peer's address stands for, and what a directory must not contain."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from smarthost.routing._types import Directory, UpstreamKind

Network = IPv4Network | IPv6Network
# (IP version, prefix length, network bits as a number, shifted right) → principal; lengths, longest first.
Table = tuple[dict[tuple[int, int, int], str], dict[int, tuple[int, ...]]]
WIDTH = {4: 32, 6: 128}


def network_principal(directory: Directory, ip: str) -> str | None:
    """The principal whose network holds `ip`, by the longest prefix; None where there is none.

    An IPv4 address that a dual-stack socket shows as ::ffff:a.b.c.d counts as the IPv4 address it is. Text
    that is no address (a Unix socket's peer) is nobody's.
    """
    if not directory.networks:
        return None
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    rows, lengths = _compile(directory.networks)
    number, width = int(address), WIDTH[address.version]
    for length in lengths[address.version]:
        found = rows.get((address.version, length, number >> (width - length)))
        if found is not None:
            return found
    return None


def check_directory(directory: Directory) -> tuple[str, ...]:
    """Every reason why this directory must not be published, as sentences; empty where it may be."""
    problems = []
    seen: dict[Network, str] = {}
    for cidr, principal in directory.networks:
        try:
            network = ip_network(cidr)
        except ValueError as error:
            problems.append(f"{principal}: {cidr} is not a network: {error}")
            continue
        other = seen.setdefault(network, principal)
        if other != principal:
            problems.append(f"{cidr} belongs to both {other} and {principal}; give each its own network")
    default = directory.default_upstream
    if default and default not in directory.upstreams:
        problems.append(f"the default server {default} does not exist")
    elif default and directory.upstreams[default].kind is UpstreamKind.PERSONAL:
        problems.append(
            f"{directory.upstreams[default].name} is a personal server and cannot be the default one"
        )
    problems += [
        f"server {id} is filed as {row.id}" for id, row in directory.upstreams.items() if row.id != id
    ]
    return tuple(problems)


@lru_cache(maxsize=8)
def _compile(networks: tuple[tuple[str, str], ...]) -> Table:
    rows: dict[tuple[int, int, int], str] = {}
    lengths: dict[int, set[int]] = {4: set(), 6: set()}
    for cidr, principal in networks:
        network = ip_network(cidr)
        shift = WIDTH[network.version] - network.prefixlen
        rows[network.version, network.prefixlen, int(network.network_address) >> shift] = principal
        lengths[network.version].add(network.prefixlen)
    return rows, {version: tuple(sorted(found, reverse=True)) for version, found in lengths.items()}
