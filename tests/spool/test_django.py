"""Accepting on a caller's connection, inside its Django transaction."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_accepting_inside_a_django_transaction(place):
    environ = os.environ | {
        "PYTHONPATH": str(HERE),
        "DJANGO_SETTINGS_MODULE": "minimal_settings",
        "SMARTHOST_DATABASE_URL": place.url,
    }
    script = str(HERE / "django_accept.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", script, place.url, str(place.data)],
        env=environ,
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "well"), done.stderr
    assert place.consistent()


def test_the_models_and_the_migrations_agree(place):
    environ = os.environ | {
        "PYTHONPATH": str(HERE),
        "DJANGO_SETTINGS_MODULE": "minimal_settings",
        "SMARTHOST_DATABASE_URL": place.url,
    }
    script = (
        "import smarthost.control, django; django.setup(); from django.core.management import call_command;"
        "call_command('makemigrations', 'spool', check=True, dry_run=True)"
    )
    subprocess.run([sys.executable, "-c", script], env=environ, check=True, timeout=60, capture_output=True)
