"""Tests of the tools, one module each."""
