"""A paused route is said where servers are listed: without it, mail that waits would wait for no reason."""

from __future__ import annotations

from pathlib import Path

from peers.service import Service
from smarthost.spool import Route, now_us, open_spool


def test_a_paused_route_is_listed_with_its_reason(folder: Path) -> None:
    place = Service(folder / "paused")
    place.folder.mkdir()
    made = place.json("upstream", "set", "--host", "mx.example.com", "--encryption", "starttls")
    assert place.json("upstream", "show")["route"] is None
    later = now_us() + 3_600_000_000
    with open_spool(f"sqlite:///{place.folder}/smarthost.db", place.folder, name="test") as store:
        store.set_route(Route(made["id"], later, "credentials", "535 no", since=1, probe_at=later))
    assert "paused: credentials" in place.command("upstream", "list").stdout
    assert "535 no" in place.command("upstream", "show").stdout
    (listed,) = place.json("upstream", "list")
    assert (listed["route"]["reason"], listed["route"]["text"]) == ("credentials", "535 no")
