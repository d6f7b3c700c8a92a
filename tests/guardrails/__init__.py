"""Tests of guardrails/."""
