-- Everything that an operator decides, and what the relay has seen of hosts. Names sort by their
-- bytes, as they do in the relay.

CREATE TABLE store (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    id bigint NOT NULL CHECK (id > 0),
    next_host bigint NOT NULL DEFAULT 1 CHECK (next_host > 0)
);
COMMENT ON TABLE store IS 'One row: what this store is.';
COMMENT ON COLUMN store.id IS
    'Random, given once: host numbers of a data directory mean nothing beside another store.';
COMMENT ON COLUMN store.next_host IS 'The number of the next host; none is ever reused.';

CREATE TABLE hosts (
    id bigint PRIMARY KEY CHECK (id BETWEEN 0 AND 4294967295),
    name text COLLATE "C" NOT NULL UNIQUE,
    tls boolean NOT NULL,
    first_seen timestamptz NOT NULL,
    source text NOT NULL CHECK (source IN ('request', 'operator', 'discovery')),
    -- What the operator has said.
    banned boolean NOT NULL DEFAULT false,
    trusted boolean,
    lenient boolean NOT NULL DEFAULT false,
    account_limit bigint CHECK (account_limit >= 0),
    events_per_second bigint CHECK (events_per_second >= 0),
    events_per_hour bigint CHECK (events_per_hour >= 0),
    events_per_day bigint CHECK (events_per_day >= 0),
    -- What was seen.
    status text NOT NULL DEFAULT 'active'
        CHECK (status IN ('active', 'idle', 'offline', 'throttled')),
    last_connected timestamptz,
    last_seen timestamptz,
    last_error text,
    failures bigint NOT NULL DEFAULT 0 CHECK (failures BETWEEN 0 AND 4294967295),
    skipped timestamptz,
    skipped_why text
);
COMMENT ON TABLE hosts IS
    'Every host. A running relay reads this table at its start only: change hosts through /admin/.';
COMMENT ON COLUMN hosts.source IS 'Who brought it: request (requestCrawl), operator, discovery.';
COMMENT ON COLUMN hosts.trusted IS 'NULL: its domain decides.';
COMMENT ON COLUMN hosts.lenient IS 'Its commits pass without the fields of Sync 1.1.';
COMMENT ON COLUMN hosts.account_limit IS 'NULL: the default; so with the next three.';
COMMENT ON COLUMN hosts.status IS 'How it does, banned or not.';
COMMENT ON COLUMN hosts.last_error IS 'Why the last attempt failed; NULL after a success.';
COMMENT ON COLUMN hosts.failures IS 'Attempts that failed since the last success.';
COMMENT ON COLUMN hosts.skipped IS 'When part of its stream was last passed over.';

CREATE TABLE domain_bans (
    domain text COLLATE "C" PRIMARY KEY,
    since timestamptz NOT NULL
);
COMMENT ON TABLE domain_bans IS 'Banned domains, with everything below them.';

CREATE TABLE takedowns (
    did text COLLATE "C" PRIMARY KEY,
    since timestamptz NOT NULL
);
COMMENT ON TABLE takedowns IS 'Accounts that are taken down.';

-- json and not jsonb, here and below: a value comes back as it was written, to the last digit.
CREATE TABLE settings (
    name text COLLATE "C" PRIMARY KEY,
    value json NOT NULL
);
COMMENT ON TABLE settings IS
    'What was changed at run time; what is not here is as the configuration says.';

CREATE TABLE notes (
    name text COLLATE "C" PRIMARY KEY,
    value json NOT NULL
);
COMMENT ON TABLE notes IS 'How far long jobs of the relay are.';

CREATE TABLE audit_log (
    id bigint PRIMARY KEY CHECK (id >= 0),
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    detail json NOT NULL
);
COMMENT ON TABLE audit_log IS 'What the operator has done through the admin API.';
COMMENT ON COLUMN audit_log.actor IS 'From where: an address, and who has passed it on.';
COMMENT ON COLUMN audit_log.action IS 'The path of the request, without /admin/.';
COMMENT ON COLUMN audit_log.subject IS 'A host, a domain, an account, a setting.';

CREATE TABLE mirror (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    seq bigint NOT NULL,
    at timestamptz NOT NULL
);
COMMENT ON TABLE mirror IS
    'One row: the last seq of the data directory, or one shortly before it, should that be lost.';

CREATE TABLE mirror_cursors (
    host bigint PRIMARY KEY,
    seq bigint NOT NULL,
    epoch bigint NOT NULL
);
COMMENT ON TABLE mirror_cursors IS 'How far hosts were read, or not quite so far.';
COMMENT ON COLUMN mirror_cursors.epoch IS 'How often the sequence of the host has started anew.';
