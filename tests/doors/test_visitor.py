"""For whom tries are counted: the peer, or whom trusted proxies name; of an IPv6 address its network."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.http.visitor import visitor
from app.wiring.application import application
from tests.contract import case_house as town


@pytest.mark.parametrize(
    ("proxies", "forwarded", "counted"),
    [
        (0, "198.51.100.7", "127.0.0.1"),
        (1, "198.51.100.7", "198.51.100.7"),
        (1, "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        (2, "203.0.113.9, 198.51.100.7", "203.0.113.9"),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (1, "", "127.0.0.1"),
    ],
)
def test_only_trusted_proxies_say_where_a_request_came_from(
    *, laid_records_url: str, laid_keys_url: str, tmp_path: Path, proxies: int, forwarded: str, counted: str
) -> None:
    """What the first in the list claims of itself is believed only of as many proxies as there are."""
    house = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True, trusted_proxies=str(proxies))
    app, seen = application(house), list[str]()
    app.before_request(lambda: seen.append(visitor()))
    assert app.test_client().get("/health/live", headers={"X-Forwarded-For": forwarded}).status_code == 200
    assert seen == [counted]
    house.close()
