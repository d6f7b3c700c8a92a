"""The table definitions of every version, as each database is given them: one file for a version and a database.

`python -m tests.guardrails.schema` writes those of the present version. It overwrites none: what was released stays as it was.
"""
