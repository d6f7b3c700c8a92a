"""The lab: a disposable real control plane with played kubelets. By hand: `python -m tests.lab --help`; in tests: the fixture `lab`."""
