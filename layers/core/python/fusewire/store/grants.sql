-- The functions' role, what it may do, and what becomes of a statement that its client has given up. All of it is said
-- again after every migration and restore.

-- Roles belong to the server, not to the database. Another database of the server may have made this one already. A
-- server on which a dump was restored may have none. An owner who may create no role goes on as the only role.
DO $$
BEGIN
    CREATE ROLE fusewire_app NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
END $$;

-- Not on the list: to delete what was booked, to write into the audit except by audit_append, or to change a table. The
-- role may execute every function: Postgres grants that to everybody, and CREATE OR REPLACE keeps a function's owner
-- and rights.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fusewire_app') THEN
        RETURN;
    END IF;
    REVOKE ALL ON ALL TABLES IN SCHEMA public FROM fusewire_app;
    GRANT USAGE ON SCHEMA public TO fusewire_app;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO fusewire_app;
    GRANT INSERT, UPDATE ON budget_window, budget_slot, ledger, usage_rollup, provider_health, api_key,
        settings_snapshot, admin_refusal, price, budget_limit, budget_node, output_size TO fusewire_app;
    GRANT UPDATE ON price_version TO fusewire_app;
    GRANT INSERT ON budget_threshold_event, health_probe, budget_adjustment TO fusewire_app;
    GRANT INSERT, UPDATE, DELETE ON api_key_secret, vendor_refusal, kept_response, input_allowance, refused_call,
        admission_wait TO fusewire_app;
END $$;

-- A client that has waited too long closes its connection and asks again by another. Where the server is merely slow, it
-- would carry out the first statement all the same, and keep its place before others: so each retry would make it slower.
-- Within a second it now sees that nobody waits. Where the owner may not set it, or the server's platform can't see it,
-- such a statement ends by itself, as all others do. What an administrator has set stays.
DO $$
BEGIN
    IF current_setting('client_connection_check_interval') = '0' THEN
        EXECUTE format('ALTER DATABASE %I SET client_connection_check_interval = ''1s''', current_database());
    END IF;
EXCEPTION
    WHEN insufficient_privilege OR invalid_parameter_value THEN NULL;
END $$;
