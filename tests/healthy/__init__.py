"""Worlds in which nothing is wrong, made by a seeded generator and mostly recorded from the lab: an accusation in one of them is a bug."""
