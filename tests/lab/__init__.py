"""The lab: a disposable real control plane with played kubelets. `python -m tests.lab --help` runs it by hand; tests use the fixture `lab`."""
