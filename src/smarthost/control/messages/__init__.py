"""The message log: Django owns the schema of the spool's tables, `smarthost.spool` owns its SQL."""
