"""The JSON doors together, and what they say of themselves: OpenAPI 3.1 at `/api/openapi.json`, to read at `/api/docs`.

flask-smorest writes the description from the same schemas that read the requests; `described` adds what schemas do not
say. Its error handlers and its pages stay out: `app.http.problems` answers every error, and no asset comes from
elsewhere.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint as FlaskBlueprint
from flask import Flask, Response, current_app, jsonify, render_template
from flask.sansio.app import App
from flask_smorest import Api, Blueprint

from app.http.api import described, reference
from app.http.api.consents import consents
from app.http.api.decisions import decisions
from app.http.api.disclosures import disclosures
from app.http.api.holder import holder
from app.http.api.keys import keys
from app.http.api.ledger import ledger
from app.http.api.processors import processors
from app.http.api.schemas import ProblemSchema
from app.http.api.services import ApiServices
from app.http.guard import anyone


class _Described(Api):
    """flask-smorest's description without its error handlers: there is one error mapping (house.md)."""

    ERROR_SCHEMA = ProblemSchema

    def _register_error_handlers(self) -> None:
        return


def blueprint(services: ApiServices) -> list[FlaskBlueprint]:
    """Return every JSON door; the last describes the others and has to be registered last."""
    rooms = [room(services) for room in (processors, ledger, keys, disclosures, decisions, consents, holder)]
    return [*rooms, _description(rooms)]


def _description(rooms: list[Blueprint]) -> FlaskBlueprint:
    page = FlaskBlueprint("api_description", __name__, url_prefix="/api")
    written: dict[str, Any] = {}

    def whole() -> dict[str, Any]:
        """Return the document; made at the first asking, when every room is registered."""
        if "complete" not in written:
            written["complete"] = described.complete(_running(), written["schemas"])
        found: dict[str, Any] = written["complete"]
        return found

    @page.get("/openapi.json")
    @anyone
    def openapi() -> Response:
        """Return the description of the JSON doors."""
        return jsonify(whole())

    @page.get("/docs")
    @anyone
    def docs() -> str:
        """Show the description as a page."""
        document = whole()
        return render_template(
            "pages/api-docs.html",
            opening=reference.paragraphs(document),
            sections=reference.sections(document),
            scopes=reference.scopes(document),
            pieces=reference.pieces,
        )

    page.record_once(lambda state: written.update(schemas=_describe(state.app, rooms)))
    return page


def _running() -> Flask:
    """Return the application itself, not the proxy of this request."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return app


def _describe(app: App, rooms: list[Blueprint]) -> dict[str, Any]:
    api = _Described(
        app,
        spec_kwargs={
            "title": "Regard",
            "version": "1",
            "openapi_version": "3.1.0",
        },
    )
    for room in rooms:
        room.register_views_in_doc(api, app, api.spec, name=room.name, parameters=None)
        api.spec.tag({"name": room.name, "description": room.description})
    return dict(api.spec.to_dict())
