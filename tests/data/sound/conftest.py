"""Libraries that read and resample sound, where they are installed."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def soundfile():
    return pytest.importorskip("soundfile")


@pytest.fixture(scope="session")
def soxr():
    return pytest.importorskip("soxr")
