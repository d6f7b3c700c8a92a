"""What may be done: actions, proposals, policy, approvals, grants, the ledger, redaction, storage.

It knows no Kubernetes client and no model.
"""
