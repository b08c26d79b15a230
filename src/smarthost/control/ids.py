"""Ids of what the control plane owns: a word for the kind, a colon and a ULID."""

from smarthost.spool import new_id


def fresh(kind: str) -> str:
    """A new id, such as "app:01J…"."""
    return f"{kind}:{new_id()}"
