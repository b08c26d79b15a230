"""The spool's tables.

Read them through `smarthost.spool`, never through these models: on the hot path they are written by SQL of
their own. Here stands what that SQL relies on. All times are microseconds since the epoch. There are no
foreign keys on the hot tables (on PostgreSQL each one would lock the parent row), and truth values are small
integers, so that the same SQL serves both databases. Columns that may be left out have their default in the
database.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

STATES_WAITING = (1, 5, 6)  # queued, deferred, unknown
STATES_TO_SHOW = (5, 6, 7, 8, 9, 10)  # what a person looks for; sent mail never enters that index


class Message(models.Model):
    """A message as it was accepted; never changed but for `noticed`."""

    id = models.CharField(primary_key=True, max_length=26)
    created_at = models.BigIntegerField()
    principal = models.TextField()
    principal_name = models.TextField()
    door = models.TextField()
    sender = models.TextField()
    size = models.BigIntegerField()
    header_size = models.IntegerField()
    chunks = models.IntegerField()
    trace = models.BinaryField()
    header_from = models.TextField()
    subject = models.TextField()
    message_id = models.TextField()
    flags = models.IntegerField()
    priority = models.SmallIntegerField()
    send_at = models.BigIntegerField(null=True)
    expires_at = models.BigIntegerField()
    dsn_ret = models.TextField(null=True)
    dsn_envid = models.TextField(null=True)
    noticed = models.SmallIntegerField(db_default=0)

    class Meta:
        db_table = "message"


class Delivery(models.Model):
    """One recipient of a message.

    rank    not null exactly while it may be leased; orders within (upstream, priority).
    due_at  not null exactly while it waits for a time.
    token   the fencing token of its last lease; lease_engine the incarnation that holds it while SENDING.
    single  whether it is its message's only recipient.
    """

    id = models.BigAutoField(primary_key=True)
    message_id = models.CharField(max_length=26)
    recipient = models.TextField()
    upstream = models.TextField()
    priority = models.SmallIntegerField()
    state = models.SmallIntegerField()
    rank = models.BigIntegerField(null=True)
    due_at = models.BigIntegerField(null=True)
    expires_at = models.BigIntegerField()
    attempts = models.IntegerField(db_default=0)
    unknown_ends = models.IntegerField(db_default=0)
    token = models.BigIntegerField(db_default=0)
    lease_engine = models.BigIntegerField(null=True)
    edits = models.TextField(null=True)
    dsn = models.TextField(null=True)
    single = models.SmallIntegerField()
    updated_at = models.BigIntegerField()

    class Meta:
        db_table = "delivery"
        indexes = [
            models.Index(fields=["message_id"], name="delivery_message"),
            models.Index(
                fields=["upstream", "priority", "rank", "id"],
                name="delivery_ready",
                condition=Q(rank__isnull=False),
            ),
            models.Index(
                fields=["due_at"], name="delivery_due", condition=Q(rank__isnull=True, due_at__isnull=False)
            ),
            models.Index(fields=["lease_engine"], name="delivery_leased", condition=Q(state=2)),
            models.Index(
                fields=["expires_at"], name="delivery_expiry", condition=Q(state__in=STATES_WAITING)
            ),
            models.Index(
                fields=["state", "id"], name="delivery_shown", condition=Q(state__in=STATES_TO_SHOW)
            ),
        ]


class Chunk(models.Model):
    """A piece of content. Rows without a message are large mail still coming in, or orphans."""

    pk = models.CompositePrimaryKey("message_id", "n")
    message_id = models.CharField(max_length=26)
    n = models.IntegerField()
    data = models.BinaryField()
    crc32 = models.BigIntegerField()

    class Meta:
        db_table = "chunk"


class Attempt(models.Model):
    """What one try did to one recipient. `tx` is the transaction on PostgreSQL, where followers also have an
    index on it; 0 on SQLite."""

    id = models.BigAutoField(primary_key=True)
    message_id = models.CharField(max_length=26)
    delivery_id = models.BigIntegerField()
    at = models.BigIntegerField()
    state = models.SmallIntegerField()
    counts = models.SmallIntegerField()
    code = models.SmallIntegerField()
    enhanced = models.TextField()
    reply = models.TextField()
    stage = models.TextField()
    local = models.SmallIntegerField()
    session = models.TextField()
    timings = models.TextField()
    transcript = models.TextField(null=True)
    tx = models.BigIntegerField(db_default=0)

    class Meta:
        db_table = "attempt"
        indexes = [models.Index(fields=["message_id"], name="attempt_message")]


class IdempotencyKey(models.Model):
    """A caller's key and the message that it made."""

    pk = models.CompositePrimaryKey("principal", "key")
    principal = models.TextField()
    key = models.CharField(max_length=255)
    fingerprint = models.BinaryField()
    message_id = models.CharField(max_length=26)
    created_at = models.BigIntegerField()

    class Meta:
        db_table = "idempotency"
        indexes = [models.Index(fields=["created_at"], name="idempotency_age")]


class Tally(models.Model):
    """Deliveries by state, kept. The count is the sum over shards: processes do not wait for each other."""

    pk = models.CompositePrimaryKey("shard", "state")
    shard = models.IntegerField()
    state = models.SmallIntegerField()
    n = models.BigIntegerField()

    class Meta:
        db_table = "tally"


class Usage(models.Model):
    """What is used of a cap or a quota in the window that starts at `since`."""

    pk = models.CompositePrimaryKey("key", "since")
    key = models.CharField(max_length=255)
    since = models.BigIntegerField()
    used = models.BigIntegerField()

    class Meta:
        db_table = "usage"
        indexes = [models.Index(fields=["since"], name="usage_age")]


class Incarnation(models.Model):
    """One life of an engine. `beat` is by the database's clock; a dead one's row goes away."""

    id = models.BigAutoField(primary_key=True)
    name = models.TextField()
    started = models.BigIntegerField()
    beat = models.BigIntegerField()

    class Meta:
        db_table = "incarnation"


class Route(models.Model):
    """What the engines know of an upstream's health; no row is a healthy one."""

    upstream = models.CharField(primary_key=True, max_length=255)
    paused_until = models.BigIntegerField(null=True)
    reason = models.TextField()
    text = models.TextField()
    since = models.BigIntegerField()
    failures = models.IntegerField()
    probe_at = models.BigIntegerField(null=True)
    detail = models.TextField()

    class Meta:
        db_table = "route"


class Event(models.Model):
    """Something a person may want to find later."""

    id = models.BigAutoField(primary_key=True)
    at = models.BigIntegerField()
    kind = models.TextField()
    subject = models.TextField()
    text = models.TextField()
    severity = models.TextField()
    actor = models.TextField()
    data = models.TextField()
    tx = models.BigIntegerField(db_default=0)

    class Meta:
        db_table = "event"
        indexes = [
            models.Index(fields=["kind", "tx", "id"], name="event_kind"),
            models.Index(fields=["subject", "tx", "id"], name="event_subject"),
            models.Index(fields=["tx", "id"], name="event_followed"),
            models.Index(fields=["at"], name="event_age"),
        ]
