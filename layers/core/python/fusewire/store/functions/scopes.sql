-- What a caller may see and change whose scopes are bound to a node of the tree. Such a caller's statements have the
-- node's id as `within` in their argument; without it the caller is the whole company's, and these functions let
-- everything through. What isn't within looks to the caller as if it weren't there.
--
-- Where many rows are looked at, the arrays of these functions are read once: as a variable, or as a query of its own.
--
-- Keys, their spend by groups and their refused calls are where the key is now. An attempt is where it was booked: the
-- windows of its path are stored in it. An audit entry is where what it is about was before and after it.

-- Whether a node is at or below another. Nothing is within a node that is deleted.
CREATE OR REPLACE FUNCTION scope_has_node(of_node text, within text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT within IS NULL OR (
        within = ANY (budget_node_way_up(of_node))
        AND EXISTS (SELECT FROM budget_node n WHERE n.id = within AND n.deleted_at IS NULL))
$$;

-- The nodes at and below a node. Those that were deleted below it are among them, for what was booked there.
CREATE OR REPLACE FUNCTION scope_nodes(within text) RETURNS text[]
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE below (id) AS (
        SELECT n.id FROM budget_node n WHERE n.id = within AND n.deleted_at IS NULL
        UNION
        SELECT n.id FROM below b JOIN budget_node n ON n.parent_id = b.id)
    SELECT COALESCE(array_agg(b.id), '{}') FROM below b
$$;

-- The keys that are under one of these nodes now.
CREATE OR REPLACE FUNCTION scope_keys(nodes text[]) RETURNS text[]
LANGUAGE sql STABLE AS $$
    SELECT COALESCE(array_agg(k.id), '{}') FROM api_key k WHERE k.budget_id = ANY (nodes)
$$;

-- Whether an entry was booked in a window of one of these nodes. path: its path_window_ids
CREATE OR REPLACE FUNCTION scope_has_path(path bigint[], nodes text[]) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM budget_window w WHERE w.id = ANY (path) AND w.budget = ANY (nodes))
$$;

-- Whether the holder of scopes that are bound to `within` may make a key that is like this one, and may change it: it is
-- under the node, and what it may see and change is no more than the holder's. Whoever may rotate a key has its secret.
CREATE OR REPLACE FUNCTION scope_governs(k api_key, within text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT within IS NULL OR (
        scope_has_node(k.budget_id, within)
        AND (NOT k.scopes && ARRAY['read', 'admin'] OR scope_has_node(k.scope_budget_id, within)))
$$;

-- Why a key may not be as k is, NULL when it may; was: as it is now, NULL for a new one.
--   no_budget        there is no such node for it to be under
--   no_scope_budget  there is no such node to bind its scopes to
--   nothing_bound    it has no scope that can be bound
--   beyond           it is more than the caller may give
CREATE OR REPLACE FUNCTION scope_key_refusal(k api_key, was api_key, within text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    RETURN CASE
        WHEN was.id IS NOT NULL AND NOT scope_governs(was, within) THEN 'beyond'
        WHEN k.budget_id IS NOT NULL AND NOT (key_node_is_there(k.budget_id) AND scope_has_node(k.budget_id, within))
            THEN 'no_budget'
        WHEN k.scope_budget_id IS NOT NULL AND NOT scope_has_node(k.scope_budget_id, COALESCE(within, k.scope_budget_id))
            AND k.scope_budget_id IS DISTINCT FROM was.scope_budget_id THEN 'no_scope_budget'
        WHEN k.scope_budget_id IS NOT NULL AND NOT k.scopes && ARRAY['read', 'admin'] THEN 'nothing_bound'
        WHEN NOT scope_governs(k, within) THEN 'beyond'
    END;
END $$;

-- A new key's fields, by a caller within a node: one that names no node is under the caller's, and so are its scopes.
CREATE OR REPLACE FUNCTION scope_key_fields(fields jsonb, within text) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN within IS NULL THEN fields ELSE fields
        || jsonb_build_object('budget_id', COALESCE(fields->>'budget_id', within))
        || CASE WHEN fields->'scopes' ?| ARRAY['read', 'admin']
           THEN jsonb_build_object('scope_budget_id', COALESCE(fields->>'scope_budget_id', within)) ELSE '{}' END END
$$;

-- What a caller within a node is shown of it: not which node is above.
CREATE OR REPLACE FUNCTION scope_node_json(node jsonb, within text) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN node->>'id' = within THEN node || '{"parent_id": null}' ELSE node END
$$;

-- Whether an audit entry is about these nodes and keys alone: before and after it. nodes: NULL for all entries
CREATE OR REPLACE FUNCTION scope_has_entry(a audit, nodes text[], keys text[]) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT nodes IS NULL OR COALESCE(CASE
        WHEN starts_with(a.action, 'key.') THEN
            (a.before IS NULL OR a.before->>'budget_id' = ANY (nodes)) AND a.after->>'budget_id' = ANY (nodes)
        WHEN a.action IN ('budget.created', 'budget.updated', 'budget.deleted') THEN a.after->>'id' = ANY (nodes)
            AND (a.before IS NULL OR a.before->>'parent_id' IS NOT DISTINCT FROM a.after->>'parent_id'
                 OR a.before->>'parent_id' = ANY (nodes) AND a.after->>'parent_id' = ANY (nodes))
        WHEN a.action = 'budget.reset' THEN a.after->>'budget' = ANY (nodes) OR a.after->>'budget' = ANY (keys)
        WHEN a.action = 'admin.refused' THEN a.actor = ANY (keys)
    END, false)
$$;
