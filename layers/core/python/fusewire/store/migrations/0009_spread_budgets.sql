-- The room of a busy key, node or user is spread over rows as the company's is (functions/slots.sql).

-- When a slot was given its part: a budget that became busy, or quiet, since then is spread, or isn't, from the next
-- allocation on.
ALTER TABLE budget_slot ADD COLUMN allocated_at timestamptz NOT NULL DEFAULT '-infinity';

-- Beside the company's, the windows in whose slots an entry was reserved, all of them those of its slot's number.
ALTER TABLE ledger ADD COLUMN slotted_window_ids bigint[];

CREATE INDEX budget_window_spread ON budget_window (id) WHERE closed_at IS NULL AND slots > 1;

-- Those that hold a part now, among those of all windows that there ever were.
CREATE INDEX budget_slot_allocated ON budget_slot (window_id, slot) WHERE allocated > 0;
