"""Taking mail in: SMTP with STARTTLS and implicit TLS, the sendmail socket, the drop folder.

submission = Submission(runtime)      # runtime has: process, spool, directory, log
await submission.start()
…
await submission.stop()
"""

from smarthost.engine.submission._settings import Settings
from smarthost.engine.submission._submission import Runtime, Submission
from smarthost.engine.submission._throttle import Throttle

__all__ = ["Runtime", "Settings", "Submission", "Throttle"]
