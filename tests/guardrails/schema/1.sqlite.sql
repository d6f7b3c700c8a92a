CREATE TABLE approval (
    proposal VARCHAR NOT NULL,
    approver VARCHAR NOT NULL,
    approval TEXT NOT NULL,
    entry INTEGER NOT NULL,
    UNIQUE (proposal, approver)
);
CREATE INDEX approval_approver ON approval (approver, entry);
CREATE TABLE delegation (
    id VARCHAR NOT NULL,
    giver VARCHAR NOT NULL,
    receiver VARCHAR NOT NULL,
    groups TEXT NOT NULL,
    reason TEXT NOT NULL,
    at VARCHAR NOT NULL,
    until VARCHAR NOT NULL,
    ended_by VARCHAR NOT NULL,
    entry INTEGER NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE emergency (
    id VARCHAR NOT NULL,
    person VARCHAR NOT NULL,
    cluster VARCHAR NOT NULL,
    reason TEXT NOT NULL,
    at VARCHAR NOT NULL,
    until VARCHAR NOT NULL,
    reviewed_by VARCHAR NOT NULL,
    review TEXT NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE kill_switch (
    scope VARCHAR NOT NULL,
    is_on INTEGER NOT NULL,
    reason TEXT NOT NULL,
    "by" VARCHAR NOT NULL,
    at VARCHAR NOT NULL,
    PRIMARY KEY (scope)
);
CREATE TABLE ledger_blob (
    log VARCHAR NOT NULL,
    commitment VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    salt VARCHAR NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (log, commitment)
);
CREATE TABLE ledger_checkpoint (
    log VARCHAR NOT NULL,
    size INTEGER NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (log, size)
);
CREATE TABLE ledger_entry (
    log VARCHAR NOT NULL,
    seq INTEGER NOT NULL,
    id VARCHAR NOT NULL,
    at VARCHAR NOT NULL,
    type VARCHAR NOT NULL,
    proposal VARCHAR,
    entry TEXT NOT NULL,
    leaf VARCHAR NOT NULL,
    PRIMARY KEY (log, seq),
    UNIQUE (id)
);
CREATE INDEX ledger_entry_proposal ON ledger_entry (proposal);
CREATE TABLE ledger_head (
    log VARCHAR NOT NULL,
    size INTEGER NOT NULL,
    frontier TEXT NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (log)
);
CREATE TABLE proposal (
    id VARCHAR NOT NULL,
    tenant VARCHAR NOT NULL,
    cluster VARCHAR NOT NULL,
    action VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    digest VARCHAR,
    draft TEXT NOT NULL,
    document TEXT,
    verdict TEXT,
    requirement TEXT,
    dry_run TEXT,
    requester VARCHAR NOT NULL,
    contributors TEXT NOT NULL,
    created_at VARCHAR NOT NULL,
    updated_at VARCHAR NOT NULL,
    expires_at VARCHAR,
    reason TEXT NOT NULL,
    outcome TEXT,
    claimed_at VARCHAR,
    fence INTEGER NOT NULL,
    lease_until VARCHAR,
    failed_at VARCHAR,
    "key" VARCHAR,
    PRIMARY KEY (id),
    UNIQUE ("key")
);
CREATE INDEX proposal_state ON proposal (state);
CREATE TABLE proposal_key (
    "key" VARCHAR NOT NULL,
    proposal VARCHAR NOT NULL,
    PRIMARY KEY ("key")
);
CREATE TABLE spending (
    proposal VARCHAR NOT NULL,
    cluster VARCHAR NOT NULL,
    automatic INTEGER NOT NULL,
    at VARCHAR NOT NULL,
    PRIMARY KEY (proposal)
);
CREATE INDEX spending_cluster_at ON spending (cluster, at);
CREATE TABLE step (
    proposal VARCHAR NOT NULL,
    fence INTEGER NOT NULL,
    n INTEGER NOT NULL,
    purpose VARCHAR NOT NULL,
    request_digest VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    receipt TEXT,
    at VARCHAR NOT NULL,
    PRIMARY KEY (proposal, fence, n)
);
CREATE TABLE step_up (
    person VARCHAR NOT NULL,
    counter INTEGER NOT NULL,
    wrong INTEGER NOT NULL,
    wrong_at VARCHAR NOT NULL,
    PRIMARY KEY (person)
);
CREATE TABLE target_lock (
    scope VARCHAR NOT NULL,
    proposal VARCHAR NOT NULL,
    until VARCHAR NOT NULL,
    PRIMARY KEY (scope)
);
