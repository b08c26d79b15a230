"""Every address that the web process answers. A capability brings its own list."""

from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("smarthost.control.pages.urls")),
]
