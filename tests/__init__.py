"""Tests mirror the rooms; tests/lab is the disposable control plane."""
