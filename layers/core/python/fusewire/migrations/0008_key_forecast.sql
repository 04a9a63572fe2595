-- One key also with what its forecast is made of. p: {settings, id}
CREATE OR REPLACE FUNCTION key_show(p jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT key_budget_json(k, p->'settings')
           || jsonb_build_object('days', usage_days(k.id, p->'settings'->>'timezone'))
    FROM api_key k WHERE k.id = p->>'id'
$$;
