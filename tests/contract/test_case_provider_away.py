"""An erasure ordered while the key provider is away: it waits, durably, and ends when the provider is back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.store.subjects import SqlSubjects
from app.vault.errors import ProviderUnavailable
from app.vault.ports import ErasureState
from app.wiring import House
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


def dispatched(story: town.Story) -> bool:
    """Whether the copy has reached the person: it goes before anything is destroyed."""
    with story.desk() as desk:
        return any(one.dispatched_at for one in desk.cases.get(story.case).messages.values())


def test_an_erasure_waits_for_the_provider_and_then_ends(house: House) -> None:
    """Vault.md section 6; dsar rule 53: 503, nothing opens, erasures queue."""
    story = town.begin(house, rows=2)
    assert story.answer_all() == 2
    town.decide(story)
    wait(lambda: dispatched(story))
    row, kept = story.holders[town.ACCOUNTS].rows[0], story.holders[town.FILES].rows[0]
    erasure, keyring = f"era_{story.gone}", house.settings.data_dir / "keyring"

    keyring.rename(keyring.with_name("away"))
    town.order_erasure(story)
    wait(lambda: house.vault.erasures.pending() == (erasure,))
    assert town.gone(story, town.ACCOUNTS, row), "from the asking on, whatever the provider does"
    wait(lambda: house.vault.erasures.state(erasure) is ErasureState.KEY_ROW_REMOVED)
    time.sleep(1)  # several attempts
    house.vault.epochs.forget()  # as after five minutes
    assert house.vault.erasures.pending() == (erasure,)
    assert house.vault.erasures.certificates(erasure) == ()
    with pytest.raises(ProviderUnavailable):
        story.holders[town.FILES].open(story.subject, "row_0", kept)

    keyring.with_name("away").rename(keyring)
    wait(lambda: house.vault.erasures.certificates(erasure))
    assert house.vault.erasures.pending() == ()
    assert town.gone(story, town.ACCOUNTS, row)
    assert not town.gone(story, town.FILES, kept), "what the law keeps opens again"


def test_an_erasure_whose_work_failed_half_way_is_carried_out_all_the_same(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours after the keys are gone: the work begins anew, and who the person was is forgotten too."""
    story = town.begin(house, rows=2)
    assert story.answer_all() == 2
    town.decide(story)
    wait(lambda: dispatched(story))
    with monkeypatch.context() as patched:
        patched.setattr(SqlSubjects, "forget", fault)
        town.order_erasure(story)
        wait(lambda: house.work.failed() == 1)
    assert house.vault.erasures.certificates(f"era_{story.gone}")
    assert house.work.begin_failed_anew(rested=timedelta(0)) == 1
    wait(lambda: carried_out(story), story.answer_all)
    assert house.work.failed() == 0
    with house.units.reading() as unit:
        assert unit.subjects.get(story.subject).erased_at is not None
    assert "Ana" not in "".join(town.jobs(house.records))


def fault(*_: object) -> None:
    raise KeyError("Ana Exemplo")


def carried_out(story: town.Story) -> bool:
    with story.desk() as desk:
        return desk.cases.get(story.case).lines[story.gone].carried_out is not None
