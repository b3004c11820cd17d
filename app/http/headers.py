"""Security headers, all of them, in one place (consent rules 4.4; OWASP secure headers).

Pages may load our stylesheet, our images and one script from our own origin, and nothing else; nothing inline. `form-
action 'self'` also blocks the redirect of a form to another site, which is why leaving for a bank goes through a page
with a plain link (consent rules 4.5).
"""

from __future__ import annotations

from flask import Response, g, request

from app.http.doors import doors

CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_ALWAYS = {
    "Content-Security-Policy": CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), "
    "geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
HSTS = "max-age=63072000; includeSubDomains"


def constant_headers(origin: str) -> list[tuple[str, str]]:
    """Return the headers of every answer of a deployment at `origin`."""
    secure = [("Strict-Transport-Security", HSTS)] if origin.startswith("https://") else []
    return [*_ALWAYS.items(), *secure]


def write_headers(response: Response) -> Response:
    """Add the headers to every answer; a view may have narrowed one itself."""
    for name, value in constant_headers(doors().origin):
        response.headers.setdefault(name, value)
    if _private(response):
        response.headers["Cache-Control"] = "no-store"
    return response


def _private(response: Response) -> bool:
    """Whether a copy must not be kept: a session, a token or a cookie took part, or it is an error."""
    if request.endpoint == "static":
        return False
    signed_in = g.get("regard_session") is not None or "Authorization" in request.headers
    return signed_in or "Set-Cookie" in response.headers or "regard_cookies" in g or response.status_code >= 400
