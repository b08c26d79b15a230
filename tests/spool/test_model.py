"""Any history, on either database, does what the obvious model in memory does.

The model knows states, counts of attempts, tokens and times; ranks and rows are the store's own affair. After
each history the kept counts equal the counted ones and the invariants of the rows hold.
"""

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from smarthost.errors import IdempotencyConflict, OverCap
from smarthost.spool import (
    FINAL,
    Acceptance,
    Charge,
    Door,
    Idempotency,
    Outcome,
    Priority,
    Selection,
    State,
    now_us,
)

S = State
WAITING = {S.QUEUED, S.DEFERRED, S.UNKNOWN}
AGAIN = {S.DEFERRED, S.UNKNOWN, S.FAILED, S.EXPIRED, S.CANCELLED}
HOUR = 3_600_000_000
ENDS = [S.SENT, S.DEFERRED, S.FAILED, S.UNKNOWN, S.HELD, S.QUEUED, S.EXPIRED]


class Model:
    """One recipient."""

    def __init__(self, message, state, later, expires):
        self.message, self.state, self.later, self.expires = message, state, later, expires
        self.due = later if state is S.QUEUED else None
        self.attempts = self.unknown_ends = 0
        self.token = None
        self.upstream = "up"

    @property
    def ready(self):
        return self.state in WAITING and self.due is None and not self.stuck

    stuck = False  # UNKNOWN that waits for a person


class History(RuleBasedStateMachine):
    place = None
    build = None
    leases = Bundle("leases")

    def __init__(self):
        super().__init__()
        self.place.wipe()
        self.notices = []
        self.spool = self.place.open(notice=self.notices.append, cache=self.place.cache)
        self.engine = self.spool.register()
        self.rows = {}  # (message, recipient) → Model
        self.keys = {}
        self.used = 0
        self.purged = set()
        self.doors = {}
        self.expected_notices = set()

    def teardown(self):
        self.place.consistent()
        self.spool.close()
        self.place.opened.clear()

    # What goes in

    @rule(
        recipients=st.integers(1, 3),
        state=st.sampled_from([S.QUEUED, S.QUEUED, S.QUEUED, S.HELD, S.CAPTURED]),
        later=st.sampled_from([None, None, HOUR]),
        life=st.sampled_from([2 * HOUR, 2 * HOUR, -1]),
        priority=st.sampled_from(Priority),
        door=st.sampled_from([Door.SMTP, Door.HTTP]),
        key=st.sampled_from([None, None, "k1", "k2"]),
        charge=st.sampled_from([0, 0, 3]),
    )
    def accept(self, recipients, state, later, life, priority, door, key, charge):
        now = now_us()
        fields = {
            "state": state,
            "send_at": now + later if later else None,
            "expires_at": now + life,
            "priority": priority,
            "door": door,
            "idempotency": Idempotency(key, door.value.encode()) if key else None,
            "charges": (Charge("cap", 0, charge, 20),) if charge else (),
        }
        m = self.build(*[f"r{n}@example.net" for n in range(recipients)], **fields)
        (result,) = self.spool.accept_many([m])
        if key in self.keys:
            first, fingerprint = self.keys[key]
            if fingerprint == door:
                assert (result.id, result.how) == (first, Acceptance.REPEATED)
            else:
                assert isinstance(result, IdempotencyConflict)
            return
        if self.used + charge > 20:
            assert isinstance(result, OverCap)
            return
        assert (result.id, result.how) == (m.id, Acceptance.ACCEPTED)
        self.used += charge
        if key:
            self.keys[key] = (m.id, door)
        self.doors[m.id] = door
        for delivery in m.deliveries:
            self.rows[m.id, delivery.recipient] = Model(m.id, state, m.send_at, m.expires_at)

    # The engine

    @rule(target=leases, places=st.integers(1, 5), limit=st.integers(1, 3))
    def lease(self, places, limit):
        ready = {key for key, row in self.rows.items() if row.ready and row.upstream == "up"}
        leases = self.spool.lease("up", places, limit)
        given = [(lease.message_id, d.recipient) for lease in leases for d in lease.deliveries]
        assert len(given) == len(set(given))
        assert set(given) <= ready
        assert len(leases) <= places
        if len(leases) < places:
            assert set(given) == ready
        for lease in leases:
            assert 1 <= len(lease.deliveries) <= limit
            assert lease.first is not None
            for d in lease.deliveries:
                row = self.rows[lease.message_id, d.recipient]
                assert (d.attempts, d.unknown_ends) == (row.attempts, row.unknown_ends)
                row.state, row.token, row.due = S.SENDING, lease.token, None
        return multiple(*leases)

    @rule(lease=leases, ends=st.lists(st.sampled_from(ENDS), min_size=3, max_size=3), again=st.booleans())
    def complete(self, lease, ends, again):
        """Also with leases that were completed or recovered before: those are fenced out."""
        now = now_us()
        given = list(zip(lease.deliveries, ends, strict=False))
        outcomes = [
            Outcome(
                d.id,
                lease.token,
                end,
                now,
                due_at=now + HOUR if end is S.DEFERRED or (end is S.UNKNOWN and again) else None,
            )
            for d, end in given
        ]
        rows = [self.rows.get((lease.message_id, d.recipient)) for d, _ in given]
        mine = [row for row in rows if row and row.state is S.SENDING and row.token == lease.token]
        fenced = self.spool.complete(outcomes)
        for (d, end), row, outcome in zip(given, rows, outcomes, strict=True):
            if row not in mine:
                assert d.id in fenced
                continue
            assert d.id not in fenced
            row.state, row.due = end, outcome.due_at
            row.stuck = end is S.UNKNOWN and not again
            row.attempts += end is not S.QUEUED
            row.unknown_ends += end is S.UNKNOWN
            self._ended(row)

    @rule(policy=st.sampled_from(["retry", "hold"]))
    def die_and_recover(self, policy):
        self.place.sql("UPDATE incarnation SET beat = 0")
        sending = [row for row in self.rows.values() if row.state is S.SENDING]
        assert self.spool.recover({"up": policy}, 60, default="hold") == len(sending)
        for row in sending:
            retried = policy == "retry" and row.upstream == "up" and row.unknown_ends < 4
            row.state, row.stuck = S.UNKNOWN, not retried
            row.due = 1 if retried else None
            row.attempts += 1
            row.unknown_ends += 1
        self.spool.beat()

    @rule()
    def promote(self):
        waiting = [row for row in self.rows.values() if row.due is not None]
        assert self.spool.promote(now_us() + 24 * HOUR) == (len(waiting), None)
        for row in waiting:
            row.due = None

    @rule()
    def expire(self):
        now = now_us()
        over = [
            row for row in self.rows.values() if row.state in WAITING and row.expires <= now and not row.stuck
        ]
        assert self.spool.expire(now) == len(over)
        for row in over:
            row.state, row.due, row.stuck = S.EXPIRED, None, False
        for row in over:
            self._ended(row)

    # People

    def _change(self, takes, becomes, changed, keep=lambda row: True):
        rows = [row for row in self.rows.values() if row.state in takes and keep(row)]
        assert changed == len(rows)
        for row in rows:
            row.state, row.stuck = becomes, False
            row.due = row.later if becomes is S.QUEUED else None
            if becomes is S.QUEUED and row.expires < now_us() + 24 * HOUR:
                row.expires = now_us() + 24 * HOUR
        for row in rows:
            self._ended(row)

    @rule()
    def hold(self):
        self._change(WAITING, S.HELD, self.spool.hold(Selection(everything=True), "eve"))

    @rule()
    def release(self):
        self._change({S.HELD}, S.QUEUED, self.spool.release(Selection(everything=True), "eve"))

    @rule(state=st.sampled_from([S.QUEUED, S.DEFERRED, S.UNKNOWN, S.HELD, S.SENDING, S.SENT]))
    def cancel(self, state):
        changed = self.spool.cancel(Selection(states=(state,)), "eve")
        self._change({state} & (WAITING | {S.HELD}), S.CANCELLED, changed)

    @rule(state=st.sampled_from([*AGAIN, S.SENT, S.SENDING]))
    def retry(self, state):
        changed = self.spool.retry(Selection(states=(state,)), "eve")
        self._change({state} & AGAIN, S.QUEUED, changed, lambda row: row.message not in self.purged)

    @rule(verdict=st.sampled_from([S.SENT, S.FAILED, S.QUEUED]))
    def resolve(self, verdict):
        changed = self.spool.resolve(Selection(everything=True), verdict, "eve")
        self._change(
            {S.UNKNOWN, S.HELD},
            verdict,
            changed,
            lambda row: row.state is S.UNKNOWN or row.unknown_ends > 0,
        )

    @rule(upstream=st.sampled_from(["up", "other"]))
    def reroute(self, upstream):
        rows = [
            row for row in self.rows.values() if row.state in WAITING | {S.HELD} and row.upstream != upstream
        ]
        assert self.spool.reroute(Selection(everything=True), upstream, "eve") == len(rows)
        for row in rows:
            row.upstream = upstream

    # Time

    @rule(whole=st.booleans())
    def purge(self, whole):
        later = now_us() + HOUR
        done = {
            message
            for message in self.doors
            if all(row.state in FINAL for row in self.rows.values() if row.message == message)
        }
        self.spool.purge(now_us(), content_before=later, rows_before=later if whole else 0, events_before=0)
        self.purged |= done
        if whole:
            self.rows = {key: row for key, row in self.rows.items() if row.message not in done}
            for message in done:
                del self.doors[message]

    @rule()
    def open_again(self):
        self.spool.close()
        self.place.opened.clear()
        self.spool = self.place.open(notice=self.notices.append, cache=self.place.cache)
        self.spool.register()
        # A new incarnation: what the old one leased is found by recover.

    def _ended(self, row):
        """A notice is due once, when the last one is final and any failed."""
        rows = [other for other in self.rows.values() if other.message == row.message]
        if (
            self.doors[row.message] is Door.SMTP
            and all(other.state in FINAL for other in rows)
            and any(other.state in (S.FAILED, S.EXPIRED) for other in rows)
        ):
            self.expected_notices.add(row.message)

    @invariant()
    def counts_agree(self):
        expected = {state.word: 0 for state in State}
        for row in self.rows.values():
            expected[row.state.word] += 1
        assert self.spool.counts() == expected

    @invariant()
    def notices_agree(self):
        told = [view.id for view in self.notices]
        assert len(told) == len(set(told))
        assert set(told) == self.expected_notices

    @invariant()
    def rows_agree(self):
        stored = {
            (message, recipient): (State(state), attempts, unknown, due is None)
            for message, recipient, state, attempts, unknown, due in self.place.sql(
                "SELECT message_id, recipient, state, attempts, unknown_ends, due_at FROM delivery"
            )
        }
        assert stored == {
            key: (row.state, row.attempts, row.unknown_ends, row.due is None)
            for key, row in self.rows.items()
        }


@pytest.mark.parametrize("cache", [0, 1 << 20])
def test_any_history_does_what_the_model_does(place, message, cache):
    examples = 30 if place.vendor == "sqlite" else 8
    tables = [
        "message",
        "delivery",
        "chunk",
        "attempt",
        "idempotency",
        "tally",
        "usage",
        "incarnation",
        "route",
        "event",
    ]

    def wipe():
        if place.vendor == "postgresql":
            with psycopg.connect(place.url, autocommit=True) as connection:
                connection.execute(f"TRUNCATE {', '.join(tables)}")
        else:
            connection = place.connect()
            connection.execute("BEGIN IMMEDIATE")
            for table in tables:
                connection.execute(f"DELETE FROM {table}")
            connection.execute("COMMIT")
            connection.close()

    place.wipe, place.cache = wipe, cache

    class ThisHistory(History):
        pass

    ThisHistory.place, ThisHistory.build = place, staticmethod(message)
    run_state_machine_as_test(
        ThisHistory,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            database=None,
        ),
    )
