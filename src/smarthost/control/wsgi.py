"""The WSGI application that granian serves, and the thread that follows configuration files beside it."""

import threading

from smarthost.control.boot import setup

setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402 - Django must know its settings first

from smarthost.control.directory.files import follow  # noqa: E402
from smarthost.control.logs import configure  # noqa: E402

configure()
application = get_wsgi_application()
threading.Thread(target=follow, args=(threading.Event(),), name="config", daemon=True).start()
