"""The pages' addresses."""

from django.urls import URLPattern, path

from smarthost.control.pages import views

urlpatterns: list[URLPattern] = [
    path("", views.messages, name="messages"),
    path("messages/<str:id>", views.message, name="message"),
    path("sign-in", views.sign_in, name="sign-in"),
    path("sign-in/<str:secret>", views.link, name="sign-in-link"),
    path("sign-out", views.sign_out, name="sign-out"),
    path("favicon.ico", views.icon, name="icon"),
]
