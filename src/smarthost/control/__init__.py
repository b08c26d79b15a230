"""The control plane: Django, one folder a capability.

The embedded database runs on the SQLite of the pysqlite3 wheel everywhere, Django included: before 3.51.3
two connections that reset a write-ahead log at the same time can corrupt it, and a system's own SQLite is
usually older. So the standard library's module is replaced before Django looks for it.
"""

import sys

import pysqlite3
import pysqlite3.dbapi2

sys.modules["sqlite3"] = pysqlite3
sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2
