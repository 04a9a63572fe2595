-- Scopes for people: `read`, every GET of the admin API and no change; and scopes that are bound to a node of the tree.
ALTER TABLE api_key DROP CONSTRAINT api_key_scopes_check;
ALTER TABLE api_key
    ADD CONSTRAINT api_key_scopes_check CHECK (scopes <@ ARRAY['complete', 'read', 'admin']),
    -- The node that its scopes read and admin are bound to; NULL: they are for the whole company. A deleted node's row
    -- stays, so a key that was bound to it doesn't become the company's.
    ADD COLUMN scope_budget_id text REFERENCES budget_node
        CHECK (scope_budget_id IS NULL OR scopes && ARRAY['read', 'admin']);
