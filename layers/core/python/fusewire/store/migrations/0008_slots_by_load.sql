-- How many slots there are follows from the load, unless AI_LEDGER_SLOTS says it (functions/slots.sql).

ALTER TABLE budget_window
    ADD COLUMN slots smallint NOT NULL DEFAULT 1 CHECK (slots >= 1), -- over which the room is spread by itself
    ADD COLUMN slots_changed_at timestamptz, -- when that number was last changed
    -- How many of the last ten reservations or so had to wait for this row; each counts for nine tenths of the next.
    ADD COLUMN lock_waits numeric NOT NULL DEFAULT 0;

-- Reservations that found every slot with room for them taken, and waited for this one, since it was allocated.
ALTER TABLE budget_slot ADD COLUMN lock_waits integer NOT NULL DEFAULT 0;
