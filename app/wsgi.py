"""The application a web server loads: the only module with effects at import.

Embedded mode: this one process serves the pages and carries out the durable work (operations.md section 2).
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import sys

from app.cli.opening import UNFIT, explain
from app.cli.serving import REFUSED, announce
from app.http.fastlane import FastLane
from app.settings import read_settings
from app.vault.process import harden_process
from app.wiring import build, migrate, serving

harden_process()
_read = read_settings(os.environ)
try:
    migrate(_read)
    _house = build(_read)
    _house.start()
except UNFIT as unfit:
    explain(unfit)  # first: the server ends its worker as soon as it is told
    if multiprocessing.parent_process() is not None:
        # a worker of the web server, which would start it again and again
        os.kill(os.getppid(), REFUSED)
    sys.exit(1)
atexit.register(_house.close)
application = serving(_house)
if isinstance(application, FastLane):
    atexit.register(application.close)
# What is built now lives as long as the process: the collector need not walk through it again and again, which costs
# a request on the fast lane as much as the signature it verifies.
gc.collect()
gc.freeze()
if multiprocessing.parent_process() is not None:
    announce(_read)
