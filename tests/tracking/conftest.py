"""The real client, and a stub of its server."""

import logging
import os

import numpy as np
import pytest

from src.tracking import Shown

from .stub import Stub

CLOUD = np.array([[0, 0, 1, 1], [0, 1, 0, 2]])


def _no_wandb(monkeypatch, home) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / "none"))


@pytest.fixture
def without_key(monkeypatch, tmp_path):
    """A process that has not heard of W&B, and a client that begins anew."""
    from wandb.sdk.lib import wbauth

    from src.tracking import settings

    def forget():
        settings.forget_client()
        wbauth.unauthenticate_session(update_settings=False)
        settings._online.cache_clear()

    forget()
    _no_wandb(monkeypatch, tmp_path)
    yield monkeypatch
    forget()


@pytest.fixture
def server():
    with Stub() as stub:
        yield stub


@pytest.fixture
def online(without_key, server):
    """The stub, which this process's client finds and is known to."""
    for name, value in server.environment.items():
        without_key.setenv(name, value)
    return server


@pytest.fixture(autouse=True)
def said(caplog):
    caplog.set_level(logging.INFO, logger="src")
    return caplog


@pytest.fixture(autouse=True)
def few_artifacts(request, monkeypatch):
    """Drawing takes seconds, and is what other tests are about."""
    if "drawn" in request.fixturenames:
        return

    monkeypatch.setattr(
        "src.run.lifecycle.show", lambda folder, tracker: tracker.show(lambda: Shown([], CLOUD))
    )


@pytest.fixture
def drawn():
    """With every picture."""
