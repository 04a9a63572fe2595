import { useInfiniteQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import type { Schema } from "../api/client";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { TextField } from "../parts/fields";
import { Answered, Empty, More } from "../parts/states";
import { answered, useSession } from "../session";
import { Head } from "../shell";

type Entry = Schema["AuditEntry"];

const PAGE = 50;
const FILTERS = ["action", "actor", "from", "to"] as const;
type Values = Record<(typeof FILTERS)[number], string>;
const NO_FILTERS: Values = { action: "", actor: "", from: "", to: "" };

export default function AuditPage() {
  const t = useText();
  const { api, me } = useSession();
  const [typed, setTyped] = useState(NO_FILTERS);
  const [asked, setAsked] = useState(NO_FILTERS);
  const entries = useInfiniteQuery({
    queryKey: ["audit", asked],
    initialPageParam: null as number | null,
    queryFn: ({ signal, pageParam }) => {
      const filters = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== ""));
      return answered(api.GET("/api/v1/admin/audit", { signal, params: { query: { ...filters, limit: PAGE, ...(pageParam !== null && { cursor: pageParam }) } } }));
    },
    getNextPageParam: (page) => (page.next_cursor === null ? null : Number(page.next_cursor)),
  });
  const field = (name: keyof Values, label: string, type: "text" | "date" = "text") => (
    <TextField type={type} label={label} value={typed[name]} onChange={(value) => setTyped((before) => ({ ...before, [name]: value }))} />
  );
  function submit(event: FormEvent) {
    event.preventDefault();
    setAsked({ ...typed, action: typed.action.trim(), actor: typed.actor.trim() });
  }
  return (
    <>
      <Head title={t.pages.audit} />
      <form className="card filters" onSubmit={submit} aria-label={t.actions.filters}>
        {field("action", t.audit.action)}
        {field("actor", t.audit.actor)}
        {field("from", t.usage.from, "date")}
        {field("to", t.usage.to, "date")}
        <p className="muted small">{t.usage.zone(me.timezone)}</p>
        <div className="filters-actions">
          <button className="button primary">{t.actions.find}</button>
        </div>
      </form>
      <Answered query={entries}>
        {({ pages }) => {
          const rows = pages.flatMap((page) => page.rows);
          if (rows.length === 0) return <Empty>{t.audit.none}</Empty>;
          return (
            <>
              <ol className="entries">
                {rows.map((entry) => (
                  <AuditEntry key={entry.n} entry={entry} />
                ))}
              </ol>
              <More query={entries} />
            </>
          );
        }}
      </Answered>
    </>
  );
}

function AuditEntry({ entry }: { entry: Entry }) {
  const t = useText();
  const format = useFormat();
  const changes = changesOf(entry);
  return (
    <li className="card">
      <div className="card-head">
        <h2>
          <code>{entry.action}</code>
        </h2>
        <time className="muted small" dateTime={entry.at}>
          {format.precise(entry.at)}
        </time>
      </div>
      <p className="small">
        <span className="muted">{t.audit.actor}</span> {entry.actor}
        {entry.source_ip && (
          <>
            {" "}
            · <span className="muted">{t.audit.from}</span> {entry.source_ip}
          </>
        )}
        {" · "}
        <span className="muted">n</span> {format.count(entry.n)}
      </p>
      {changes.length > 0 && (
        <details>
          <summary>{t.audit.changes(changes.length)}</summary>
          <dl className="changes">
            {changes.map(([name, before, after]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>
                  {before !== undefined && <del>{before}</del>} {after !== undefined && <ins>{after}</ins>}
                </dd>
              </div>
            ))}
          </dl>
        </details>
      )}
    </li>
  );
}

/** What differs, by its name; within an object by both names. What isn't there and what is null are the same. */
function changesOf({ before, after }: Entry): [string, string | undefined, string | undefined][] {
  const [old, fresh] = [named(before ?? {}), named(after ?? {})];
  return [...new Set([...old.keys(), ...fresh.keys()])]
    .map((name): [string, string | undefined, string | undefined] => [name, old.get(name), fresh.get(name)])
    .filter(([, was, is]) => was !== is);
}

function named(values: object, within = ""): Map<string, string> {
  return new Map(
    Object.entries(values).flatMap(([name, value]: [string, unknown]) => {
      if (value === null || value === undefined) return [];
      if (typeof value === "object" && !Array.isArray(value)) return [...named(value, `${within}${name}.`)];
      return [[`${within}${name}`, typeof value === "string" ? value : JSON.stringify(value)] as const];
    }),
  );
}
