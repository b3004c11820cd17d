"""`regard demo`: everything started on this machine, and the main job run once by an outsider, who tells what happens.

The first run prepares a stage of generated people (`app.demo.stage`) in a folder of its own, starts the service, the
reference holder and the reference component as processes, and hands the outsider's script what it would have been
given on paper. The script uses doors only; each line it prints is evidence. A later start keeps all of it, serves
again and shows what was told. Leaves out deciding anything: the demonstration is the service and a script.
"""

from __future__ import annotations

import fcntl
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import httpx

from app.cli.configured import settings
from app.cli.ports import taken
from app.demo.addresses import Addresses, addresses
from app.sdk.evidence import verify_bundle
from app.servicekeys import ServiceKeyError
from app.settings import Settings
from app.vault.errors import VaultError

if TYPE_CHECKING:
    from app.wiring import UnfitDeployment

OUTSIDER = Path("tests/journeys/main_job.py")
"""Who runs the main job: a script that imports nothing of the project."""
REGARD = ".venv/bin/python -m app.cli.entry"
"""The `regard` command, as it is typed in a clone."""
STARTING_SECONDS = 180
HANDOUTS = "handouts.json"
"""What only a demonstration's folder has."""
TOLD = "told.txt"
"""What the outsider told, kept for later starts; written last, so that a run that broke off begins anew."""


class DemoFailed(click.ClickException):
    """A process did not start, or a promise was not kept."""


@click.command()
@click.option("--once", is_flag=True, help="stop after the main job instead of keeping the pages open")
@click.option("--fresh", is_flag=True, help="forget an earlier run and begin anew")
@click.option("--script", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=OUTSIDER)
def demo(once: bool, fresh: bool, script: Path) -> None:  # noqa: FBT001 - click passes flags so
    """Start everything on this machine and let an outsider's script run the main job, in REGARD_DATA_DIR/demo."""
    os.umask(0o077)
    os.environ["REGARD_DATA_DIR"] = str(_beneath(settings().data_dir))
    os.environ.setdefault("REGARD_ERASURE_BATCH_MINUTES", "0")  # nobody looks on for a quarter of an hour
    # whoever ends this process ends all of them, by Ctrl-C or otherwise
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run(settings(), script, once=once, fresh=fresh)


def _beneath(folder: Path) -> Path:
    """Return the demonstration's own folder. Raises DemoFailed where that would be a demonstration within another."""
    if (folder / HANDOUTS).exists():
        raise DemoFailed(
            f"REGARD_DATA_DIR: {folder} is a demonstration's own folder. Leave the setting away, or name the folder "
            "above it: the demonstration keeps its data in demo/ beneath"
        )
    return (folder / "demo").resolve()


def run(read: Settings, script: Path, *, once: bool, fresh: bool) -> None:
    """Run the demonstration in the data folder of the settings; keep serving until interrupted unless `once`.

    Raises DemoFailed with the sentence of what went wrong.
    """
    folder, began = read.data_dir.resolve(), time.monotonic()
    again = (folder / TOLD).exists() and not fresh
    at = addresses(read.issuer)
    with ExitStack() as running:
        running.enter_context(_alone(folder))
        _check_ports(at)
        if again:
            running.enter_context(_everybody(folder, at))
            click.echo("The main job ran before; this is what was told then (make demo FRESH=1 runs it anew):")
            click.echo((folder / TOLD).read_text(encoding="utf-8"))
            _still_sound(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            handouts = running.enter_context(_staged(read, folder, at))
            _outsider(script, handouts, folder)
        click.echo(f"\nReady after {time.monotonic() - began:.1f} s.")
        _show_addresses(at, folder)
        if not once:
            _until_interrupted()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder: two demonstrations in it would answer for each other. Raises DemoFailed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoFailed(f"a demonstration is running in {folder} already") from None
        yield


def _check_ports(at: Addresses) -> None:
    """Say at once that a port is taken; the server would share it with whoever listens there. Raises DemoFailed."""
    for address in (at.issuer, at.safe, at.collector):
        if taken("127.0.0.1", int(_port(address))):
            raise DemoFailed(
                f"port {_port(address)} is taken by another program. Choose another, e.g. "
                "REGARD_ISSUER=http://localhost:8900; the holder and the component take the two ports behind it"
            )


@contextmanager
def _staged(read: Settings, folder: Path, at: Addresses) -> Iterator[Path]:
    """Prepare the stage while the service starts, then start the others."""
    from app.demo.stage import set_stage  # noqa: PLC0415 - loads the whole service, which a later start does not need
    from app.wiring import UnfitDeployment, build, migrate  # noqa: PLC0415 - the same

    click.echo("Preparing: databases, policy pack, generated people, clients, a pool of those who are gone ...")
    with _told(UnfitDeployment, ServiceKeyError, VaultError):
        migrate(read)
    with _service(folder) as service:
        with _told(UnfitDeployment, ServiceKeyError, VaultError), closing(build(read)) as house:
            handouts = set_stage(house, folder, at)
        with _components(folder, at, service):
            yield handouts


@contextmanager
def _told(*kinds: type[UnfitDeployment | ServiceKeyError | VaultError]) -> Iterator[None]:
    """Tell in a sentence what keeps the stage from being set. Raises DemoFailed."""
    try:
        yield
    except kinds as unfit:
        raise DemoFailed(f"{unfit.code}: {str(unfit) or inspect.getdoc(type(unfit))}") from None


@contextmanager
def _everybody(folder: Path, at: Addresses) -> Iterator[None]:
    with _service(folder) as service, _components(folder, at, service):
        yield


@contextmanager
def _service(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with _process(folder, "service", [sys.executable, "-m", "app.cli.entry", "serve"]) as service:
        yield service


@contextmanager
def _components(folder: Path, at: Addresses, service: subprocess.Popen[bytes]) -> Iterator[None]:
    """Start the reference holder and component, and wait until everybody answers."""
    keys = folder / "clients"
    common = ["--issuer", at.issuer]
    safe = ["-m", "app.demo.safe", *common, "--client-id", "demo-safe", "--key", str(keys / "safe.pem")]
    safe += ["--data", str(folder / "safe"), "--port", _port(at.safe), "--every", "0.5", "--lease-seconds", "5"]
    collector = ["-m", "app.demo.collector", *common, "--client-id", "demo-collector"]
    collector += ["--key", str(keys / "collector.pem"), "--safe", at.safe, "--bank", str(folder / "bank")]
    collector += ["--port", _port(at.collector)]
    with (
        _process(folder, "holder", [sys.executable, *safe]) as holder,
        _process(folder, "component", [sys.executable, *collector]) as component,
    ):
        _wait(at.issuer + "/health/ready", service)
        _wait(at.safe + "/health", holder)
        _wait(at.collector + "/health", component)
        yield


def _port(address: str) -> str:
    return str(urlsplit(address).port)


@contextmanager
def _process(folder: Path, name: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process whose log is a file of the folder; it ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.log").open("ab") as log:
        running = subprocess.Popen(command, env=_environment(), stdout=log, stderr=log)  # noqa: S603 - our own words
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(timeout=15)
            except subprocess.TimeoutExpired:
                running.kill()


def _environment() -> Mapping[str, str]:
    """A child does not wait for a buffer to fill before its log says something."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the process answers. Raises DemoFailed when it has ended, or stays silent."""
    ends = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        try:
            if httpx.get(address, timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.05)
    what = "does not answer" if process.poll() is None else "could not start"
    raise DemoFailed(f"who should answer at {address} {what}; the logs are in the data folder")


def _outsider(script: Path, handouts: Path, folder: Path) -> None:
    """Let the script do the main job; show and keep what it tells."""
    command = [sys.executable, "-m", ".".join(script.with_suffix("").parts), str(handouts)]
    draft = folder / f"{TOLD}.draft"
    running = subprocess.Popen(  # noqa: S603 - the script the operator names
        command, env=_environment(), stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    with draft.open("w", encoding="utf-8") as kept:
        for line in running.stdout or ():
            click.echo(line, nl=False)
            kept.write(line)
    if running.wait() != 0:
        raise DemoFailed("the main job broke off: see above, and the logs in the data folder")
    draft.rename(folder / TOLD)


def _still_sound(folder: Path) -> None:
    """Check the evidence of the run again: files may have been touched since."""
    report = verify_bundle((folder / "evidence.json").read_bytes(), (folder / "ledger.vkey").read_text().strip())
    if not report.ok:
        raise DemoFailed("the evidence of the earlier run does not verify any more; --fresh runs it anew")
    click.echo(f"   evidence still sound      {len(report.entries)} ledger entries verified offline just now")


def _show_addresses(at: Addresses, folder: Path) -> None:
    visitor = json.loads((folder / HANDOUTS).read_text(encoding="utf-8"))["visitor"]
    click.secho("\nOpen", bold=True)
    for address, words in (
        (f"{at.issuer}/fr/", "the pages, in French; /en /es /pt too"),
        (f"{at.issuer}/fr/processors", "the processor list"),
        (f"{at.issuer}/fr/sign-in", f"a person's space: {visitor['email']}"),
        ("", f"their printed code for a first passkey: {visitor['printed_code']}"),
        (f"{at.issuer}/outbox", "the outbox: mail as it would have been sent, the sign-in link among it"),
        (f"{at.issuer}/dpo/cases", "the DPO's queue, with a passkey of your own: the next lines print a code"),
        ("", f"REGARD_DATA_DIR={folder} {REGARD} staff add 'Sam Dupont' --role dpo --controller ormelune"),
        ("", f"to be typed at {at.issuer}/en/staff/enrol"),
        (f"{at.issuer}/api/docs", "the API"),
    ):
        click.echo(f"   {address:<40} {words}")
    click.echo(f"   files, keys and logs are in {folder}")


def _until_interrupted() -> None:
    click.echo("\nCtrl-C stops everything.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        click.echo("\nstopped")
