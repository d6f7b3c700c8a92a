"""Tests of runbooks/."""
