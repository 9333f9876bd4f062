"""Shared by the tests of metrics."""

import pytest

from src.metrics import features


@pytest.fixture
def few_steps(monkeypatch):
    """Train the feature network for few steps: test_fid.py checks the quality of the features."""
    monkeypatch.setattr(features, "STEPS", 12)
