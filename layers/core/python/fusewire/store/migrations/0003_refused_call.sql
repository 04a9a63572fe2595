-- Calls that were refused and for which nothing is in the ledger, gathered: one row a key, code and minute, however
-- many they are. A row lives for 30 days (functions/refused.sql).
CREATE TABLE refused_call (
    id              uuid        PRIMARY KEY, -- grows with time: pages go by it
    key_id          text        NOT NULL, -- '' for none
    code            text        NOT NULL, -- of the error that the callers got
    minute          timestamptz NOT NULL,
    calls           bigint      NOT NULL,
    last_at         timestamptz NOT NULL,
    last_request_id text,
    UNIQUE (key_id, code, minute)
) WITH (fillfactor = 50);
