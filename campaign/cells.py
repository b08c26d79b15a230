"""The hostile upstream: twelve states × eight faults × two shapes of a transaction, all at once.

One delivery side in this process, on a real SQLite store, has 184 upstreams; each shows its fault once, to its
only message, and behaves afterwards. A well-behaved upstream stands beside them and must not notice. The
deadlines are short, and what waits for minutes is made due by hand; everything else is the product's.

What must hold in each cell: a refusal is final only where SMTP says so; a failure before MAIL costs the message
no attempt; in the end the message is there, once plus its unknown ends at most, and each of those is stored.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path

import msgspec
import trustme

from campaign.installation import STATES as WORDS
from campaign.installation import change, installation, query
from campaign.score import Score
from peers.hostile import FAULTS, STATES, Fault, Hostile, Plan
from peers.service import Service
from smarthost.engine.delivery import Deadlines, Delivery
from smarthost.engine.directory import DirectoryCache
from smarthost.engine.log import Log
from smarthost.routing import Directory, Encryption, Mode, Upstream, destination
from smarthost.spool import AsyncSpool, Door, NewDelivery, NewMessage, new_id, now_us, open_spool
from smarthost.vault import load_or_create_key, seal

SETUP = ("connect", "banner", "ehlo", "starttls", "tls", "auth")
EXTENSIONS = ("PIPELINING", "8BITMIME", "SIZE", "ENHANCEDSTATUSCODES")
SHAPES = {"data": EXTENSIONS, "bdat": (*EXTENSIONS, "CHUNKING")}
GOOD = "good"
GOOD_MAIL = 200
CONTENT = b"From: a@example.org\r\nSubject: cell\r\n\r\n.hello\r\n"
SECRET = "correct horse"
QUICK = Deadlines(
    connect=4, banner=1, ehlo=1, starttls=1, tls=1, auth=1, mail=1, rcpt=1, data=1, body=1, dot=1, rset=1,
    quit=0.5, setup=4, idle=60, sweep=0.05,
)  # fmt: skip


def run(folder: Path, seed: int, *, long: bool = False, planted: str = "") -> list[Score]:
    score = Score("hostile upstream, states × faults", "sqlite")
    service = installation(folder, 1, None)
    with service:
        pass
    asyncio.run(_all(service, score))
    return [score]


async def _all(service: Service, score: Score) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    servers = {GOOD: Hostile(Plan())}
    for state, fault, (shape, extensions) in product(STATES, FAULTS, SHAPES.items()):
        if (state, shape) == ("data", "bdat"):
            continue  # there is no DATA command then
        servers[f"{state}/{fault}/{shape}"] = Hostile(
            Plan(
                faults=[Fault(state, fault)],
                extensions=extensions,
                tls="starttls",
                context=context,
                mechanisms=("PLAIN",),
                users={"u": SECRET},
                pause=0.2,
            )
        )
    await asyncio.gather(*(server.start() for server in servers.values()))
    try:
        await _deliver(service, servers, authority.cert_pem.bytes().decode(), score)
    finally:
        await asyncio.gather(*(server.stop() for server in servers.values()))


async def _deliver(service: Service, servers: dict[str, Hostile], ca: str, score: Score) -> None:
    key = load_or_create_key(service.folder / "secret.key")
    upstreams = {}
    for name, server in servers.items():
        plain = Upstream(
            id=name,
            name=name,
            host="127.0.0.1",
            port=server.port,
            encryption=Encryption.NONE if name == GOOD else Encryption.STARTTLS,
            ca_pem="" if name == GOOD else ca,
            username="" if name == GOOD else "u",
        )
        sealed = "" if name == GOOD else seal(key, SECRET, destination(plain))
        upstreams[name] = msgspec.structs.replace(plain, password=sealed)
    store = open_spool(f"sqlite:///{service.folder / 'smarthost.db'}", service.folder, name="cells")
    spool = store.bind(asyncio.get_running_loop())
    directory = Directory(
        version=1,
        mode=Mode.LIVE,
        hostname="hub.example",
        domain="example.org",
        upstreams=upstreams,
        default_upstream=GOOD,
        unknown_retry_after=1,
    )
    cache = DirectoryCache(spool, directory)
    incarnation = await spool.register()
    delivery = Delivery(spool, cache, key, Log(-1), incarnation=incarnation, deadlines=QUICK)
    try:
        await delivery.start()
        for name in servers:
            for _ in range(GOOD_MAIL if name == GOOD else 1):
                await spool.accept(_message(name))
        delivery.wake()
        begun = time.monotonic()
        while len(servers[GOOD].answered) < GOOD_MAIL and time.monotonic() - begun < 20:
            await asyncio.sleep(0.02)
        score.note = (
            f"{GOOD_MAIL} messages to the good upstream beside them took {time.monotonic() - begun:.1f} s"
        )
        await _until_final(service, spool, delivery)
    finally:
        await delivery.drain(5)
        await delivery.stop()
        await spool.retire()
        await asyncio.to_thread(store.close)
    _judge(service, servers, score)


def _message(name: str) -> NewMessage:
    now = now_us()
    return NewMessage(
        id=new_id(),
        created_at=now,
        principal="system",
        principal_name="cells",
        door=Door.HTTP,
        sender="a@example.org",
        deliveries=(NewDelivery(f"{name.replace('/', '.')}@sink.example", name),),
        size=len(CONTENT),
        header_size=CONTENT.index(b"\r\n\r\n") + 4,
        trace=b"Received: by hub.example\r\n",
        expires_at=now + 3_600_000_000,
        content=CONTENT,
    )


async def _until_final(service: Service, spool: AsyncSpool, delivery: Delivery, seconds: float = 60) -> None:
    """As if time passed quickly: waiting mail is due, paused routes are probed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        counts = await spool.counts()
        if not any(counts.get(word) for word in ("queued", "sending", "deferred", "unknown")):
            return
        await asyncio.sleep(1.5)
        change(service, "UPDATE delivery SET due_at = 1 WHERE due_at IS NOT NULL")
        change(service, "UPDATE route SET paused_until = 1, probe_at = 1")
        await spool.promote(now_us())
        for lane in delivery.lanes.values():
            health = lane.health
            health.route = replace(health.route, until=1 if health.paused else 0)
            health.calm_until = 0
        await delivery.probe()
        delivery.wake()


def _judge(service: Service, servers: dict[str, Hostile], score: Score) -> None:
    rows = query(service, "SELECT upstream, state, attempts, unknown_ends, id FROM delivery ORDER BY id")
    shown: dict[int, int] = defaultdict(int)
    for (id_,) in query(service, "SELECT delivery_id FROM attempt WHERE state = 6"):
        shown[id_] += 1
    wrong: dict[str, str] = {}
    for name, number, attempts, unknown, id_ in rows:
        if name == GOOD:
            if WORDS[number] != "sent":
                wrong[GOOD] = f"is {WORDS[number]}"
            continue
        state, fault, _ = name.split("/")
        word, server = WORDS[number], servers[name]
        refused = fault == "5xx" and state not in (*SETUP, "quit")
        if word != ("failed" if refused else "sent"):
            wrong[name] = f"is {word}"
        elif len(server.taken) > 1 + unknown:
            wrong[name] = f"{len(server.taken)} copies, {unknown} unknown ends"
        elif len(server.answered) != (0 if refused else 1):
            wrong[name] = f"{len(server.answered)} answered copies"
        elif state in SETUP and (attempts != 1 or unknown):
            wrong[name] = f"{attempts} attempts, {unknown} unknown ends for a fault before MAIL"
        elif shown[id_] != unknown:
            wrong[name] = f"{unknown} unknown ends, {shown[id_]} shown"
        elif any(one.content.partition(b"\r\n\r\n")[2] != b".hello\r\n" for one in server.answered):
            wrong[name] = "another body"
        score.cases += 1
        score.verdict.unknown_ends += unknown
        score.verdict.copies += max(0, len(server.taken) - 1)
    score.verdict.acknowledged = len(rows)
    score.faults += [f"{name}: {why}" for name, why in wrong.items()]
