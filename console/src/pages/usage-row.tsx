/** Rows of usage reports: by each group its value, then the sums. */
import type { Schema } from "../api/client";

type Row = Schema["UsageRow"];

/** A group's value; `""` where there is none. */
export function text(row: Row, name: string): string {
  const value = row[name];
  return value === null || value === undefined ? "" : String(value);
}

/** A key by its name, as a link; one that isn't in the database by its id. */
export function KeyOf({ row }: { row: Row }) {
  const id = text(row, "key");
  return id.startsWith("key_") ? <a href={`#/keys/${id}`}>{text(row, "key_name") || id}</a> : id || "–";
}
