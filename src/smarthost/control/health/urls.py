"""Where probes and Prometheus look."""

from django.urls import URLPattern, path

from smarthost.control.health.views import alive, metrics, ready

urlpatterns: list[URLPattern] = [
    path("healthz", alive, name="healthz"),
    path("readyz", ready, name="readyz"),
    path("metrics", metrics, name="metrics"),
]
