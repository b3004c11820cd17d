"""The pages' view of the authorization server: each call a unit of its own (`doors.Authorizations`).

The consent is given and committed before the partner's code is made; the code is made when the person follows the
link back, because it lives 60 seconds (FAPI 2.0) and reading a result page may take longer.
"""

from __future__ import annotations

from app.http.oauth import Authorizations, OAuthServices, Pending
from consent.vocabulary import ConsentId, SubjectRef


class OwnUnits:
    """`Authorizations` with a unit opened and committed for each call."""

    def __init__(self, services: OAuthServices) -> None:
        self._services = services
        self._inner = Authorizations(services)

    def pending(self, journey: str) -> Pending:
        """Return what a journey is about. Raises `InvalidRequestUri` when it is over or was answered."""
        with self._services.units() as unit:
            return self._inner.pending(unit, journey)

    def complete(self, journey: str, consent: ConsentId, subject: SubjectRef) -> str:
        """Complete a request after the person agreed; return where to send them."""
        with self._services.units() as unit:
            address = self._inner.complete(unit, journey, consent, subject)
            unit.commit()
        return address

    def refuse(self, journey: str) -> str:
        """Complete a request after the person said no; return where to send them."""
        with self._services.units() as unit:
            address = self._inner.refuse(unit, journey)
            unit.commit()
        return address
