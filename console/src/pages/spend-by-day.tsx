/** What was spent on each day, stacked by one other group: the company's, a key's or one's own. */
import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import type { Schema } from "../api/client";
import { useText } from "../i18n/text";
import { DayChart } from "../parts/chart";
import { Answered, Empty } from "../parts/states";

/** How many days are shown, today included. */
export const DAYS = 30;
/** Rows that one answer has at most. */
export const MAX_ROWS = 1000;

interface SpendByDayProps {
  usage: UseQueryResult<{ rows: Schema["UsageRow"][]; next_cursor: string | null }>;
  group: "provider" | "model";
  /** Beside the title. */
  children?: ReactNode;
}

export function SpendByDay({ usage, group, children }: SpendByDayProps) {
  const t = useText();
  return (
    <section className="card" aria-labelledby="days-title">
      <div className="card-head">
        <h2 id="days-title">{t.overview.byDay}</h2>
        {children}
      </div>
      <Answered query={usage}>
        {({ rows, next_cursor }) => (
          <>
            {rows.length === 0 ? (
              <Empty>{t.usage.nothing}</Empty>
            ) : (
              <DayChart label={t.overview.byDay} points={rows.map((row) => ({ day: String(row["day"]), series: String(row[group] ?? ""), amount: row.cost_usd }))} />
            )}
            {next_cursor !== null && <p className="note">{t.usage.partly}</p>}
          </>
        )}
      </Answered>
    </section>
  );
}
