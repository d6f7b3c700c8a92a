"""Tests of oncall/."""
