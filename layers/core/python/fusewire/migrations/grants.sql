-- The functions' role and what it may do, given anew after every migration and restore.

-- Roles belong to the server, not to the database: another database of it may have made this one already, a server that a
-- dump was restored on may have none, and an owner who may make none goes on as the only role.
DO $$
BEGIN
    CREATE ROLE fusewire_app NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
END $$;

-- Not on the list: to delete what was booked, to write into the audit but by audit_append, or to change a table.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fusewire_app') THEN
        RETURN;
    END IF;
    REVOKE ALL ON ALL TABLES IN SCHEMA public FROM fusewire_app;
    GRANT USAGE ON SCHEMA public TO fusewire_app;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO fusewire_app;
    GRANT INSERT, UPDATE ON budget_window, budget_slot, ledger, usage_rollup, provider_health, api_key, settings_seen
        TO fusewire_app;
    GRANT INSERT ON budget_crossing TO fusewire_app;
    GRANT INSERT, UPDATE, DELETE ON api_key_secret TO fusewire_app;
END $$;
