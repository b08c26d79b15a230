"""What the spool needs of PostgreSQL beyond the models; SQLite needs nothing here."""

from django.db import migrations

STATEMENTS = [
    # Ids are ASCII: compare them as bytes. It is also what makes `id < …` mean "older than".
    'ALTER TABLE message ALTER COLUMN id TYPE varchar(26) COLLATE "C"',
    'ALTER TABLE delivery ALTER COLUMN message_id TYPE varchar(26) COLLATE "C"',
    'ALTER TABLE chunk ALTER COLUMN message_id TYPE varchar(26) COLLATE "C"',
    'ALTER TABLE attempt ALTER COLUMN message_id TYPE varchar(26) COLLATE "C"',
    # Content is mostly compressed or small already; compressing it again only costs time.
    "ALTER TABLE chunk ALTER COLUMN data SET STORAGE EXTERNAL",
    # Delivery rows change three times and then rest: keep room beside them and clean up early.
    "ALTER TABLE delivery SET (fillfactor = 75, autovacuum_vacuum_scale_factor = 0.01,"
    " autovacuum_vacuum_threshold = 1000, autovacuum_analyze_scale_factor = 0.02)",
    "ALTER TABLE tally SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0,"
    " autovacuum_vacuum_threshold = 500)",
    # A follower that reads by id alone would miss rows of slower transactions.
    "ALTER TABLE attempt ALTER COLUMN tx SET DEFAULT pg_current_xact_id()::text::bigint",
    "ALTER TABLE event ALTER COLUMN tx SET DEFAULT pg_current_xact_id()::text::bigint",
    "CREATE INDEX attempt_followed ON attempt (tx, id)",
]


def tune(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    with schema_editor.connection.cursor() as cursor:
        # Django adds a second index for LIKE to text keys; the spool never asks that way.
        cursor.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND indexname LIKE '%%_like'"
            " AND tablename IN ('message', 'delivery', 'chunk', 'attempt', 'idempotency', 'usage', 'route')"
        )
        for (name,) in cursor.fetchall():
            schema_editor.execute(f'DROP INDEX "{name}"')
    for statement in STATEMENTS:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("spool", "0001_initial")]
    operations = [migrations.RunPython(tune, migrations.RunPython.noop)]
