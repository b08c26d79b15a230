"""The one error tree.

Every failure that Smarthost can explain is a `SmarthostError`. It carries what SMTP needs (a reply
code and an enhanced status code, RFC 5321 4.2 and RFC 3463), what HTTP needs (a status and a stable
slug for problem+json, RFC 9457), one sentence for whoever caused it, and a private cause for the
log. Public text says what was wrong, where, and what to do; it never holds a secret. Temporary or
permanent is not stored: it is the first digit of `code`.
"""

from __future__ import annotations


class SmarthostError(Exception):
    """Base of the tree. Subclasses set the class attributes; an instance may override any of them.

    code      SMTP reply code, 4yz temporary or 5yz permanent (RFC 5321 4.2).
    enhanced  enhanced status code whose first digit agrees with `code` (RFC 3463).
    http      HTTP status of the same failure.
    slug      stable machine name, `kebab-case`, part of the public contract.
    """

    code: int = 554
    enhanced: str = "5.0.0"
    http: int = 400
    slug: str = "error"

    def __init__(
        self,
        public: str,
        *,
        private: str | None = None,
        field: str | None = None,
        code: int | None = None,
        enhanced: str | None = None,
        http: int | None = None,
        slug: str | None = None,
    ) -> None:
        super().__init__(public)
        self.public = public
        self.private = private
        self.field = field
        self.code = self.code if code is None else code
        self.enhanced = self.enhanced if enhanced is None else enhanced
        self.http = self.http if http is None else http
        self.slug = self.slug if slug is None else slug

    @property
    def temporary(self) -> bool:
        """Whether trying the same again later can succeed."""
        return 400 <= self.code < 500

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code} {self.enhanced} {self.slug}: {self.public!r})"


class AddressError(SmarthostError):
    """An address that is not exactly one mailbox (RFC 5321 4.1.2, RFC 6531 3.3)."""

    code, enhanced, http, slug = 553, "5.1.3", 422, "address-invalid"


class HeaderError(SmarthostError):
    """A header field that cannot be written, or a header section that cannot be accepted (RFC 5322)."""

    code, enhanced, http, slug = 550, "5.6.0", 422, "header-invalid"


class ContentError(SmarthostError):
    """Content that cannot be accepted, such as an attachment that is not base64."""

    code, enhanced, http, slug = 550, "5.6.0", 422, "content-invalid"


class LoopError(SmarthostError):
    """A message that has been through here too often (RFC 5321 6.3)."""

    code, enhanced, http, slug = 554, "5.4.6", 422, "mail-loop"


class TooLarge(SmarthostError):
    """A message over a size limit (RFC 1870)."""

    code, enhanced, http, slug = 552, "5.3.4", 413, "message-too-large"


class TooManyRecipients(SmarthostError):
    """More recipients than one message may have here (RFC 5321 4.5.3.1.8)."""

    code, enhanced, http, slug = 452, "4.5.3", 422, "too-many-recipients"


class CredentialError(SmarthostError):
    """A credential that is missing or wrong. One text for every cause: it never tells which."""

    code, enhanced, http, slug = 535, "5.7.8", 401, "credentials-invalid"


class Forbidden(SmarthostError):
    """A known principal that may not do this."""

    code, enhanced, http, slug = 550, "5.7.1", 403, "forbidden"


class NotFound(SmarthostError):
    """Nothing there that this principal may see."""

    code, enhanced, http, slug = 550, "5.1.1", 404, "not-found"


class Refused(SmarthostError):
    """Policy refuses this recipient or this message; the text names the rule."""

    code, enhanced, http, slug = 550, "5.7.1", 422, "refused"


class Conflict(SmarthostError):
    """The state does not allow this, such as cancelling what was sent."""

    code, enhanced, http, slug = 554, "5.5.1", 409, "conflict"


class IdempotencyConflict(Conflict):
    """The same idempotency key with a different request."""

    slug = "idempotency-conflict"


class OverCap(SmarthostError):
    """A principal's sending cap is used up until its window ends."""

    code, enhanced, http, slug = 452, "4.7.0", 429, "cap-reached"


class StoreUnavailable(SmarthostError):
    """The store cannot make anything durable now. Nothing was accepted."""

    code, enhanced, http, slug = 451, "4.3.0", 503, "store-unavailable"


class StoreFull(SmarthostError):
    """Less free space than the floor. Nothing was accepted (RFC 5321 452)."""

    code, enhanced, http, slug = 452, "4.3.1", 507, "store-full"


class ConfigError(SmarthostError):
    """A setting that cannot be used. `origin` is where it stands: a file and line, a variable, a page."""

    slug = "config-invalid"

    def __init__(self, public: str, *, origin: str | None = None, field: str | None = None) -> None:
        super().__init__(public, field=field)
        self.origin = origin


class SecretError(SmarthostError):
    """A stored secret that cannot be opened here: another key, or another destination."""

    code, enhanced, http, slug = 451, "4.7.0", 500, "secret-unusable"
