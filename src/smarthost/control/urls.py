"""Every address that the web process answers. A capability brings its own list."""

from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/", include("smarthost.control.api.urls")),
    path("", include("smarthost.control.health.urls")),
    path("", include("smarthost.control.pages.urls")),
]
handler404 = "smarthost.control.pages.views.not_found"
handler500 = "smarthost.control.pages.views.failed"
