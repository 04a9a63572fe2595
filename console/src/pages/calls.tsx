import { useInfiniteQuery } from "@tanstack/react-query";
import { useMemo, useState, type FormEvent } from "react";
import { useLocation, useSearch } from "wouter";
import type { Schema } from "../api/client";
import type { paths } from "../api/schema";
import { useFormat } from "../format/use-format";
import { useText, type Text } from "../i18n/text";
import { SelectField, TextField } from "../parts/fields";
import { Answered, Empty, More } from "../parts/states";
import { DataTable, type Column } from "../parts/table";
import { Usd } from "../parts/usd";
import { answered, useSession } from "../session";
import { Head } from "../shell";
import { KeyField } from "./key-field";

type Query = NonNullable<paths["/api/v1/admin/calls"]["get"]["parameters"]["query"]>;
export type Attempt = Schema["AttemptResponse"];

const PAGE = 50;
const FILTERS = ["request_id", "provider", "model", "key", "status", "outcome", "from", "to"] as const;
const STATUSES = ["reserved", "settled", "released", "refused"] as const;

export function outcomeKind(attempt: Attempt): string {
  if (attempt.status === "reserved") return "warn";
  return attempt.outcome === "success" || attempt.outcome === "ok" || attempt.outcome === null ? "good" : "bad";
}

export function outcomeWords(attempt: Attempt, t: Text): string {
  return attempt.status === "reserved" ? t.calls.statuses.reserved : (attempt.outcome ?? t.calls.statuses[attempt.status]);
}

export default function Calls() {
  const t = useText();
  const format = useFormat();
  const { api } = useSession();
  const search = useSearch();
  const [, navigate] = useLocation();
  const query = useMemo(() => {
    const given = new URLSearchParams(search);
    return Object.fromEntries(FILTERS.flatMap((name) => (given.get(name) ? [[name, given.get(name)]] : []))) as Query;
  }, [search]);
  const calls = useInfiniteQuery({
    queryKey: ["calls", query],
    initialPageParam: null as string | null,
    queryFn: ({ signal, pageParam }) =>
      answered(api.GET("/api/v1/admin/calls", { signal, params: { query: { ...query, limit: PAGE, ...(pageParam !== null && { cursor: pageParam }) } } })),
    getNextPageParam: (page) => page.next_cursor,
  });
  const columns: Column<Attempt>[] = [
    { id: "at", header: t.calls.at, cell: (row) => <a href={`#/calls/${encodeURIComponent(row.request_id)}`}>{format.precise(row.reserved_at)}</a> },
    { id: "outcome", header: t.calls.outcome, cell: (row) => <span className={`badge ${outcomeKind(row)}`}>{outcomeWords(row, t)}</span> },
    {
      id: "model",
      header: t.calls.model,
      cell: (row) => (
        <span className="stacked">
          <span>{row.model}</span>
          <span className="small muted">{row.provider}</span>
        </span>
      ),
    },
    { id: "key", header: t.calls.key, minor: true, cell: (row) => <KeyLink id={row.key_id} /> },
    { id: "attempt", header: t.calls.attempt, numeric: true, minor: true, cell: (row) => format.count(row.attempt) },
    { id: "tokens", header: t.calls.tokens, numeric: true, minor: true, cell: (row) => (row.input_tokens === null ? "–" : `${format.count(row.input_tokens)} → ${format.count(row.output_tokens ?? 0)}`) },
    { id: "cost", header: t.calls.cost, numeric: true, cell: (row) => (row.cost_usd === null ? <span className="muted">≤ <Usd amount={row.bound_usd} /></span> : <Usd amount={row.cost_usd} />) },
  ];
  return (
    <>
      <Head title={t.pages.calls}>
        <button type="button" className="button" onClick={() => void calls.refetch()}>
          {t.actions.refresh}
        </button>
      </Head>
      <Filters key={search} query={query} onQuery={(wanted) => navigate(`/calls${wanted}`)} />
      <Answered query={calls}>
        {({ pages }) => {
          const rows = pages.flatMap((page) => page.rows);
          const refused = pages.flatMap((page) => page.refused);
          return (
            <>
              {refused.length > 0 && <Refused rows={refused} />}
              {rows.length > 0 && (
                <section className="card flush">
                  <DataTable caption={t.pages.calls} columns={columns} rows={rows} rowKey={(row) => row.id} sortable={false} />
                </section>
              )}
              {rows.length === 0 && refused.length === 0 && !calls.hasNextPage && <Empty>{t.calls.none}</Empty>}
              <More query={calls} />
            </>
          );
        }}
      </Answered>
    </>
  );
}

function KeyLink({ id }: { id: string | null }) {
  if (id === null) return "–";
  return id.startsWith("key_") ? <a href={`#/keys/${id}`}>{`${id.slice(0, 12)}…`}</a> : id;
}

function Filters({ query, onQuery }: { query: Query; onQuery: (wanted: string) => void }) {
  const t = useText();
  const { me } = useSession();
  const given = query as Record<string, string | undefined>;
  const [values, setValues] = useState<Record<string, string>>(() => Object.fromEntries(FILTERS.map((name) => [name, given[name] ?? ""])));
  const set = (name: string) => (value: string) => setValues((before) => ({ ...before, [name]: value }));
  function submit(event: FormEvent) {
    event.preventDefault();
    const set = Object.entries(values).map(([name, value]) => [name, value.trim()] as [string, string]).filter(([, value]) => value !== "");
    onQuery(set.length > 0 ? `?${new URLSearchParams(set).toString()}` : "");
  }
  const text = (name: (typeof FILTERS)[number], placeholder = "") => (
    <TextField label={t.calls.filters[name]} value={values[name] ?? ""} onChange={set(name)} placeholder={placeholder} />
  );
  return (
    <form className="card filters" onSubmit={submit} aria-label={t.actions.filters}>
      {text("request_id", "x-request-id")}
      {text("provider")}
      {text("model")}
      <KeyField label={t.calls.filters.key} value={values["key"] ?? ""} onChange={set("key")} />
      <SelectField
        label={t.calls.filters.status}
        value={values["status"] ?? ""}
        onChange={set("status")}
        options={[{ value: "", label: t.calls.any }, ...STATUSES.map((value) => ({ value, label: t.calls.statuses[value] }))]}
      />
      {text("outcome")}
      <TextField type="date" label={t.usage.from} value={values["from"] ?? ""} onChange={set("from")} />
      <TextField type="date" label={t.usage.to} value={values["to"] ?? ""} onChange={set("to")} />
      <p className="muted small">{t.usage.zone(me.timezone)}</p>
      <div className="filters-actions">
        <button className="button primary">{t.actions.find}</button>
        <button type="button" className="button" onClick={() => onQuery("")}>
          {t.actions.clear}
        </button>
      </div>
    </form>
  );
}

function Refused({ rows }: { rows: Schema["RefusedCallsResponse"][] }) {
  const t = useText();
  const format = useFormat();
  const columns: Column<Schema["RefusedCallsResponse"]>[] = [
    { id: "at", header: t.calls.at, cell: (row) => format.precise(row.last_at) },
    { id: "code", header: t.calls.code, cell: (row) => <span className="badge bad">{row.code}</span> },
    { id: "key", header: t.calls.key, cell: (row) => <KeyLink id={row.key_id} /> },
    { id: "calls", header: t.calls.count, numeric: true, cell: (row) => format.count(row.calls) },
    { id: "last", header: "x-request-id", minor: true, cell: (row) => <code className="small">{row.last_request_id ?? "–"}</code> },
  ];
  return (
    <details className="card flush">
      <summary>{t.calls.refused(format.count(rows.length))}</summary>
      <DataTable caption={t.calls.refusedTitle} columns={columns} rows={rows} rowKey={(row) => `${row.minute} ${row.code} ${row.key_id ?? ""}`} sortable={false} />
    </details>
  );
}
