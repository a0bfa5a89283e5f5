"""Each test here looks at every overlay."""

from __future__ import annotations

import pytest

from tests.support.manifests import OVERLAYS, Manifests, rendered


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    overlay: str = request.param
    return rendered(overlay)
