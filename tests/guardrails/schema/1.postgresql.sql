CREATE SCHEMA IF NOT EXISTS smokejumper;
SET LOCAL search_path = smokejumper;
CREATE TABLE schema_version (version integer NOT NULL);
INSERT INTO schema_version VALUES (1);
CREATE TABLE tenant_role (role text COLLATE "C" PRIMARY KEY, tenant text COLLATE "C" NOT NULL);
CREATE FUNCTION tenant_of_session() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = smokejumper, pg_temp AS 'SELECT tenant FROM tenant_role WHERE role = session_user';
REVOKE ALL ON FUNCTION tenant_of_session() FROM PUBLIC;
CREATE TABLE approval (
    proposal VARCHAR COLLATE "C" NOT NULL,
    approver VARCHAR COLLATE "C" NOT NULL,
    approval TEXT COLLATE "C" NOT NULL,
    entry INTEGER NOT NULL,
    tenant VARCHAR COLLATE "C" DEFAULT tenant_of_session() NOT NULL,
    UNIQUE (tenant, proposal, approver)
);
CREATE INDEX approval_approver ON approval (tenant, approver, entry);
ALTER TABLE approval ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON approval USING (tenant = (SELECT tenant_of_session())) WITH CHECK (tenant = (SELECT tenant_of_session()));
CREATE TABLE delegation (
    id VARCHAR COLLATE "C" NOT NULL,
    giver VARCHAR COLLATE "C" NOT NULL,
    receiver VARCHAR COLLATE "C" NOT NULL,
    groups TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    at VARCHAR COLLATE "C" NOT NULL,
    until VARCHAR COLLATE "C" NOT NULL,
    ended_by VARCHAR COLLATE "C" NOT NULL,
    entry INTEGER NOT NULL,
    tenant VARCHAR COLLATE "C" DEFAULT tenant_of_session() NOT NULL,
    PRIMARY KEY (tenant, id)
);
ALTER TABLE delegation ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON delegation USING (tenant = (SELECT tenant_of_session())) WITH CHECK (tenant = (SELECT tenant_of_session()));
CREATE TABLE emergency (
    id VARCHAR COLLATE "C" NOT NULL,
    person VARCHAR COLLATE "C" NOT NULL,
    cluster VARCHAR COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    at VARCHAR COLLATE "C" NOT NULL,
    until VARCHAR COLLATE "C" NOT NULL,
    reviewed_by VARCHAR COLLATE "C" NOT NULL,
    review TEXT COLLATE "C" NOT NULL,
    tenant VARCHAR COLLATE "C" DEFAULT tenant_of_session() NOT NULL,
    PRIMARY KEY (tenant, id)
);
ALTER TABLE emergency ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON emergency USING (tenant = (SELECT tenant_of_session())) WITH CHECK (tenant = (SELECT tenant_of_session()));
CREATE TABLE kill_switch (
    scope VARCHAR COLLATE "C" NOT NULL,
    is_on INTEGER NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    by VARCHAR COLLATE "C" NOT NULL,
    at VARCHAR COLLATE "C" NOT NULL,
    tenant VARCHAR COLLATE "C" DEFAULT tenant_of_session() NOT NULL,
    PRIMARY KEY (tenant, scope)
);
ALTER TABLE kill_switch ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON kill_switch USING (tenant = (SELECT tenant_of_session())) WITH CHECK (tenant = (SELECT tenant_of_session()));
CREATE TABLE ledger_blob (
    log VARCHAR COLLATE "C" NOT NULL,
    commitment VARCHAR COLLATE "C" NOT NULL,
    kind VARCHAR COLLATE "C" NOT NULL,
    salt VARCHAR COLLATE "C" NOT NULL,
    content TEXT COLLATE "C" NOT NULL,
    tenant VARCHAR COLLATE "C" DEFAULT tenant_of_session() NOT NULL,
    PRIMARY KEY (log, commitment)
);
ALTER TABLE ledger_blob ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON ledger_blob USING (log = (SELECT tenant_of_session())) WITH CHECK (log = (SELECT tenant_of_session()) AND tenant = (SELECT tenant_of_session()));
CREATE TABLE ledger_checkpoint (
    log VARCHAR COLLATE "C" NOT NULL,
    size INTEGER NOT NULL,
    note TEXT COLLATE "C" NOT NULL,
    tenant VARCHAR COLLATE "C" DEFAULT tenant_of_session() NOT NULL,
    PRIMARY KEY (log, size)
);
ALTER TABLE ledger_checkpoint ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON ledger_checkpoint USING (log = (SELECT tenant_of_session())) WITH CHECK (log = (SELECT tenant_of_session()) AND tenant = (SELECT tenant_of_session()));
CREATE TABLE ledger_entry (
    log VARCHAR COLLATE "C" NOT NULL,
    seq INTEGER NOT NULL,
    id VARCHAR COLLATE "C" NOT NULL,
    at VARCHAR COLLATE "C" NOT NULL,
    type VARCHAR COLLATE "C" NOT NULL,
    proposal VARCHAR COLLATE "C",
    entry TEXT COLLATE "C" NOT NULL,
    leaf VARCHAR COLLATE "C" NOT NULL,
    tenant VARCHAR COLLATE "C" DEFAULT tenant_of_session() NOT NULL,
    PRIMARY KEY (log, seq),
    UNIQUE (log, id)
);
CREATE INDEX ledger_entry_proposal ON ledger_entry (log, proposal);
ALTER TABLE ledger_entry ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON ledger_entry USING (log = (SELECT tenant_of_session())) WITH CHECK (log = (SELECT tenant_of_session()) AND tenant = (SELECT tenant_of_session()));
CREATE TABLE ledger_head (
    log VARCHAR COLLATE "C" NOT NULL,
    size INTEGER NOT NULL,
    frontier TEXT COLLATE "C" NOT NULL,
    note TEXT COLLATE "C" NOT NULL,
    tenant VARCHAR COLLATE "C" DEFAULT tenant_of_session() NOT NULL,
    PRIMARY KEY (log)
);
ALTER TABLE ledger_head ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON ledger_head USING (log = (SELECT tenant_of_session())) WITH CHECK (log = (SELECT tenant_of_session()) AND tenant = (SELECT tenant_of_session()));
CREATE TABLE proposal (
    id VARCHAR COLLATE "C" NOT NULL,
    tenant VARCHAR COLLATE "C" NOT NULL,
    cluster VARCHAR COLLATE "C" NOT NULL,
    action VARCHAR COLLATE "C" NOT NULL,
    state VARCHAR COLLATE "C" NOT NULL,
    version INTEGER NOT NULL,
    digest VARCHAR COLLATE "C",
    draft TEXT COLLATE "C" NOT NULL,
    document TEXT COLLATE "C",
    verdict TEXT COLLATE "C",
    requirement TEXT COLLATE "C",
    dry_run TEXT COLLATE "C",
    requester VARCHAR COLLATE "C" NOT NULL,
    contributors TEXT COLLATE "C" NOT NULL,
    created_at VARCHAR COLLATE "C" NOT NULL,
    updated_at VARCHAR COLLATE "C" NOT NULL,
    expires_at VARCHAR COLLATE "C",
    reason TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C",
    claimed_at VARCHAR COLLATE "C",
    fence INTEGER NOT NULL,
    lease_until VARCHAR COLLATE "C",
    failed_at VARCHAR COLLATE "C",
    key VARCHAR COLLATE "C",
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, key)
);
CREATE INDEX proposal_state ON proposal (tenant, state);
ALTER TABLE proposal ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON proposal USING (tenant = (SELECT tenant_of_session())) WITH CHECK (tenant = (SELECT tenant_of_session()));
CREATE TABLE proposal_key (
    key VARCHAR COLLATE "C" NOT NULL,
    proposal VARCHAR COLLATE "C" NOT NULL,
    tenant VARCHAR COLLATE "C" DEFAULT tenant_of_session() NOT NULL,
    PRIMARY KEY (tenant, key)
);
ALTER TABLE proposal_key ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON proposal_key USING (tenant = (SELECT tenant_of_session())) WITH CHECK (tenant = (SELECT tenant_of_session()));
CREATE TABLE spending (
    proposal VARCHAR COLLATE "C" NOT NULL,
    cluster VARCHAR COLLATE "C" NOT NULL,
    automatic INTEGER NOT NULL,
    at VARCHAR COLLATE "C" NOT NULL,
    tenant VARCHAR COLLATE "C" DEFAULT tenant_of_session() NOT NULL,
    PRIMARY KEY (tenant, proposal)
);
CREATE INDEX spending_cluster_at ON spending (tenant, cluster, at);
ALTER TABLE spending ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON spending USING (tenant = (SELECT tenant_of_session())) WITH CHECK (tenant = (SELECT tenant_of_session()));
CREATE TABLE step (
    proposal VARCHAR COLLATE "C" NOT NULL,
    fence INTEGER NOT NULL,
    n INTEGER NOT NULL,
    purpose VARCHAR COLLATE "C" NOT NULL,
    request_digest VARCHAR COLLATE "C" NOT NULL,
    status VARCHAR COLLATE "C" NOT NULL,
    receipt TEXT COLLATE "C",
    at VARCHAR COLLATE "C" NOT NULL,
    tenant VARCHAR COLLATE "C" DEFAULT tenant_of_session() NOT NULL,
    PRIMARY KEY (tenant, proposal, fence, n)
);
ALTER TABLE step ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON step USING (tenant = (SELECT tenant_of_session())) WITH CHECK (tenant = (SELECT tenant_of_session()));
CREATE TABLE step_up (
    person VARCHAR COLLATE "C" NOT NULL,
    counter INTEGER NOT NULL,
    wrong INTEGER NOT NULL,
    wrong_at VARCHAR COLLATE "C" NOT NULL,
    tenant VARCHAR COLLATE "C" DEFAULT tenant_of_session() NOT NULL,
    PRIMARY KEY (tenant, person)
);
ALTER TABLE step_up ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON step_up USING (tenant = (SELECT tenant_of_session())) WITH CHECK (tenant = (SELECT tenant_of_session()));
CREATE TABLE target_lock (
    scope VARCHAR COLLATE "C" NOT NULL,
    proposal VARCHAR COLLATE "C" NOT NULL,
    until VARCHAR COLLATE "C" NOT NULL,
    tenant VARCHAR COLLATE "C" DEFAULT tenant_of_session() NOT NULL,
    PRIMARY KEY (tenant, scope)
);
ALTER TABLE target_lock ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_tenant ON target_lock USING (tenant = (SELECT tenant_of_session())) WITH CHECK (tenant = (SELECT tenant_of_session()));
