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
    <TextField type={type} label={label} {...(name === "from" && { help: t.usage.zone(me.timezone) })} value={typed[name]} onChange={(value) => setTyped((before) => ({ ...before, [name]: value }))} />
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

function changesOf({ before, after }: Entry): [string, string | undefined, string | undefined][] {
  const [old, fresh]: Record<string, unknown>[] = [before ?? {}, after ?? {}];
  const written = (from: Record<string, unknown> | undefined, name: string) =>
    from?.[name] === undefined || from[name] === null ? undefined : typeof from[name] === "string" ? String(from[name]) : JSON.stringify(from[name]);
  return [...new Set([...Object.keys(old ?? {}), ...Object.keys(fresh ?? {})])]
    .map((name): [string, string | undefined, string | undefined] => [name, written(old, name), written(fresh, name)])
    .filter(([, was, is]) => was !== is);
}
