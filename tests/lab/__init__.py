"""The lab: a disposable real control plane with played kubelets. See `python -m tests.lab --help` and `docs` in each module."""
