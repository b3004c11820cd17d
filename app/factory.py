"""The Flask application: everything registered, then refused if any rule has no guard.

`create_app(doors, blueprints)` is pure assembly: it opens no database and reads no setting. `app.wiring` makes the
doors, `app.wsgi` calls this.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from flask import Blueprint, Flask, redirect
from werkzeug.wrappers import Response

from app.http import chrome, guard, headers, locale, problems, sessions
from app.http.doors import Doors
from app.http.locale import current_locale
from app.http.pages import PAGES

ROOT = Path(__file__).resolve().parents[1]
BODY_LIMIT = 1024 * 1024
"""Bytes a request body may have; a room that takes documents raises it for its own rules."""


def create_app(doors: Doors, blueprints: Iterable[Blueprint] = (), *, away: Iterable[type[Exception]] = ()) -> Flask:
    """Return the application of the built-in pages and `blueprints`; `away`: faults of a database that cannot answer.

    Raises Unguarded for a rule without a guard.
    """
    app = Flask("app", static_folder=str(ROOT / "app/http/static"), template_folder=str(ROOT / "templates"))
    app.extensions["regard.doors"] = doors
    app.config.update(MAX_CONTENT_LENGTH=BODY_LIMIT, MAX_FORM_MEMORY_SIZE=BODY_LIMIT, SEND_FILE_MAX_AGE_DEFAULT=3600)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    locale.install(app)
    chrome.install(app)
    problems.install(app, away)
    app.before_request(guard.enforce)
    app.after_request(headers.write_headers)
    app.after_request(sessions.write_cookies)  # registered last, runs first
    _register(app, blueprints)
    guard.refuse_unguarded(app)
    return app


def _register(app: Flask, blueprints: Iterable[Blueprint]) -> None:
    guard.declare(app, "static", guard.Anyone())
    app.add_url_rule("/", "start", _start, methods=["GET"])
    for blueprint in (*PAGES, *blueprints):
        app.register_blueprint(blueprint)


@guard.anyone
def _start() -> Response:
    """Go to the home page in the language the browser prefers."""
    return redirect(f"/{current_locale().value}/", 303)
