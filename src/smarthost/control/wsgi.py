"""The WSGI application that granian serves."""

from smarthost.control.boot import setup

setup(migrate=False)

from django.core.wsgi import get_wsgi_application  # noqa: E402 - Django must know its settings first

application = get_wsgi_application()
