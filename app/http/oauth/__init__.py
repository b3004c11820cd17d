"""The authorization server; the only room that knows Authlib."""

from app.http.oauth.authorize import Authorizations, Pending
from app.http.oauth.doors import blueprint
from app.http.oauth.resource import PresentedTokens, challenge
from app.http.oauth.services import ConsentView, OAuthServices, view_of
from app.http.oauth.validity import Standing, standing

__all__ = [
    "Authorizations",
    "ConsentView",
    "OAuthServices",
    "Pending",
    "PresentedTokens",
    "Standing",
    "blueprint",
    "challenge",
    "standing",
    "view_of",
]
