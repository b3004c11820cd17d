"""Access, then erasure, carried out durably on a wired house: keys destroyed, a certificate, one thing kept."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.outbound.package import Copies
from app.outbound.uploads import Whose
from app.store.sealedfiles import UnknownFile
from app.vault.errors import Erased
from app.wiring import House
from consent.vocabulary import Shredded
from dsar import events as e
from dsar import usecases
from dsar.case import State
from dsar.errors import NotAnswered
from dsar.vocabulary import TaskKind
from tests.contract import case_house as town
from tests.waiting import wait

pytestmark = pytest.mark.slow


@pytest.fixture
def house(laid_records_url: str, laid_keys_url: str, tmp_path: Path) -> Iterator[House]:
    built = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True)
    built.work.migrate()
    quick = town.quick(built, first=timedelta(seconds=0.3), longest=timedelta(seconds=0.3))
    quick.work.launch(poll_seconds=0.05)
    yield quick
    quick.close()


def case_of(story: town.Story):
    with story.desk() as desk:
        return desk.cases.get(story.case)


def test_access_then_erasure_to_the_end(house: House) -> None:
    """Dsar rules 3, 37, 40, 48, 49, 53, 60."""
    story = town.begin(house)
    assert story.answer_all() == 2
    town.decide(story)
    check_copy(story)
    wait(lambda: any(one.dispatched_at for one in case_of(story).messages.values()))

    row, kept = story.holders[town.ACCOUNTS].rows[0], story.holders[town.FILES].rows[0]
    town.order_erasure(story)
    wait(lambda: not house.vault.erasures.pending() and town.gone(story, town.ACCOUNTS, row))
    assert case_of(story).lines[story.gone].carried_out is None, "no holder has confirmed yet (rule 53)"
    assert story.answer_all() == 2
    wait(lambda: verifying(story))
    assert story.answer_all() == 2
    wait(lambda: case_of(story).lines[story.gone].carried_out)

    (certificate,) = house.vault.erasures.certificates(f"era_{story.gone}")
    assert certificate["statement"] == "keys destroyed"
    assert [one["category"] for one in certificate["retained"]] == [town.PAPERS]
    assert not town.gone(story, town.FILES, kept)
    assert story.holders[town.ACCOUNTS].rows == []
    check_forgotten(story)
    with story.desk() as desk:
        (retention,) = desk.cases.retentions(story.case)
        assert (retention.category, retention.until) == (town.PAPERS, town.ENDED + timedelta(days=1826))
        assert "L.561-12" in retention.legal_ref
        with pytest.raises(NotAnswered):
            usecases.close(desk, story.case)
        reply = usecases.prepare_reply(desk, story.case, [story.gone])
        # begun by hand, no letter was put aside: nobody knows an address any more, so staff send one by post
        usecases.dispatch_message(desk, reply, channel="letter", proof="registered:2C123")
    assert case_of(story).state is State.DISPATCHED
    with story.desk() as desk:
        assert usecases.close(desk, story.case) is e.Ending.CLOSED
    told = "".join(town.jobs(house.records))
    assert not any(word in told for word in ("Ana", "example.org", "passport", "HYPERLINK"))


def verifying(story: town.Story) -> bool:
    with story.desk() as desk:
        return bool(desk.cases.tasks(story.case, TaskKind.VERIFY))


def check_copy(story: town.Story) -> None:
    """Every file is there, whole, and as the manifest says; no cell is a formula (rules 37, 40)."""
    whose = Whose(story.house.controller, story.subject)
    archive = zipfile.ZipFile(io.BytesIO(Copies(story.house.vault, story.house.casework.files).read(whose, story.copy)))
    manifest = json.loads(archive.read("manifest.json"))
    assert [one["name"] for one in manifest["files"]] == [
        "data.json",
        "01-accounts-balances.csv",
        "02-identity-papers.csv",
        "copy.pdf",
    ]
    everything = json.loads(archive.read("data.json"))
    assert len(everything["holders"][town.ACCOUNTS][town.BALANCES]) == 310
    assert everything["holders"][town.ACCOUNTS][town.BALANCES][0]["bank"] == "=HYPERLINK(1)"
    rows = list(csv.reader(io.StringIO(archive.read("01-accounts-balances.csv").decode("utf-8-sig"))))
    assert rows[:2] == [["holder", "bank", "balance"], [town.ACCOUNTS, "'=HYPERLINK(1)", "0"]]
    assert len(rows) == 311
    assert archive.read("copy.pdf").startswith(b"%PDF-")
    at_rest = b"".join(
        path.read_bytes() for path in (story.house.settings.data_dir / "sealed").rglob("*") if path.is_file()
    )
    assert not any(word in at_rest for word in (b"passport", b"HYPERLINK", b"PK\x03\x04"))


def check_forgotten(story: town.Story) -> None:
    """Nobody is left: no profile, no address, no copy, no note (rules 53, 54)."""
    house = story.house
    assert house.profiles.profile(story.subject) is None
    assert house.profiles.find_by_email(house.controller, "ana@example.org") is None
    with pytest.raises(UnknownFile):
        house.casework.files.read(story.copy)
    with pytest.raises(Erased):
        house.vault.seal(story.holders[town.ACCOUNTS].scope(story.subject), "row_9", b"again")
    with story.desk() as desk:
        note = next(one.event.note for one in desk.cases.history(story.case) if isinstance(one.event, e.CaseReceived))
        assert isinstance(desk.notes.read(note), Shredded)
