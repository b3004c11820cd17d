"""The fast lane put in front of a house's application."""

from __future__ import annotations

from datetime import datetime

from app.http.errors import Unavailable
from app.http.fastlane import FastLane, Wsgi
from app.store.fastlane import HotReads, RecordsUnreachable
from app.wiring.application import application, authorization_services
from app.wiring.house import House
from app.wiring.looked import LookedFace


def serving(house: House) -> Wsgi:
    """Return what a web server calls: the Flask application, behind the lane unless REGARD_FAST_LANE is off."""
    doors: Wsgi = application(house)
    return fast_lane(house, doors) if house.settings.fast_lane else doors


def fast_lane(house: House, doors: Wsgi) -> FastLane:
    """Return the lane in front of `doors`; the connections it holds end with it (`FastLane.close`)."""
    return FastLane(doors, authorization_services(house), _Reads(HotReads(house.records)), house.metrics.answered)


class _Reads:
    """The store's hot reads as the lane's port has them."""

    def __init__(self, reads: HotReads) -> None:
        self._reads = reads
        self.close = reads.close

    def look(self, caller: str, secret: str) -> LookedFace | None:
        try:
            looked = self._reads.look(caller, secret)
        except RecordsUnreachable:
            raise Unavailable from None
        return None if looked is None else LookedFace(looked)

    def spend(self, kind: str, owner: str, jti: str, until: datetime) -> bool:
        try:
            return self._reads.spend(kind, owner, jti, until)
        except RecordsUnreachable:
            raise Unavailable from None
