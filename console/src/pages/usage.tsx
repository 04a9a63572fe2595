import { keepPreviousData, useInfiniteQuery, useMutation } from "@tanstack/react-query";
import { useMemo, useState, type ReactNode } from "react";
import type { Schema } from "../api/client";
import { compareDecimals } from "../api/exact";
import type { paths } from "../api/schema";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { DayChart, RankChart } from "../parts/chart";
import { Checks, SelectField, TextField } from "../parts/fields";
import { Answered, Empty, Failure } from "../parts/states";
import { DataTable, type Column } from "../parts/table";
import { Usd } from "../parts/usd";
import { answered, useSession } from "../session";
import { Head } from "../shell";
import { useNodes } from "./budgets";
import { useKeyNames } from "./key-name";
import { daysAgo } from "./overview";

type Query = NonNullable<paths["/api/v1/admin/usage"]["get"]["parameters"]["query"]>;
type Row = Schema["UsageRow"];

const GROUPS = ["day", "provider", "model", "tier", "key", "budget"] as const;
const PAGE = 200;
const RANKED = 12;

export default function UsagePage() {
  const t = useText();
  const [month, setMonth] = useState("");
  const [from, setFrom] = useState(daysAgo(29));
  const [to, setTo] = useState(daysAgo(0));
  const [groups, setGroups] = useState<readonly string[]>(["day", "model"]);
  const [tag, setTag] = useState("");
  const [budget, setBudget] = useState("");
  const [key, setKey] = useState("");
  const nodes = useNodes();
  const query = useMemo<Query>(() => {
    const named = [...groups, ...(tag.trim() ? [`tag:${tag.trim()}`] : [])];
    return {
      group_by: (named.length > 0 ? named : ["day"]) as NonNullable<Query["group_by"]>,
      ...(month ? { month } : { ...(from && { from }), ...(to && { to }) }),
      ...(budget && { budget }),
      ...(key.trim() && { key: key.trim() }),
    };
  }, [groups, tag, month, from, to, budget, key]);

  function chargeback() {
    setMonth(daysAgo(0).slice(0, 7));
    setGroups(["key", "budget"]);
    setTag("");
    setBudget("");
    setKey("");
  }

  return (
    <>
      <Head title={t.pages.usage}>
        <button type="button" className="button" onClick={chargeback}>
          {t.usage.chargeback}
        </button>
        <Download query={query} />
      </Head>
      <section className="card filters" aria-label={t.actions.filters}>
        <Checks label={t.usage.groupBy} options={GROUPS.map((value) => ({ value, label: t.usage.groups[value] }))} chosen={groups} onChange={setGroups} />
        <TextField label={t.usage.tag} value={tag} onChange={setTag} placeholder="team" maxLength={100} />
        <TextField type="month" label={t.usage.month} value={month} onChange={setMonth} />
        {month === "" && (
          <>
            <TextField type="date" label={t.usage.from} value={from} onChange={setFrom} />
            <TextField type="date" label={t.usage.to} value={to} onChange={setTo} />
          </>
        )}
        <SelectField
          label={t.usage.below}
          value={budget}
          onChange={setBudget}
          options={[{ value: "", label: t.usage.everywhere }, ...(nodes.data ?? []).map((node) => ({ value: node.id, label: node.name }))]}
        />
        <TextField label={t.usage.ofKey} value={key} onChange={setKey} placeholder="key_…" />
      </section>
      <Report query={query} />
    </>
  );
}

function Report({ query }: { query: Query }) {
  const t = useText();
  const format = useFormat();
  const { api } = useSession();
  const usage = useInfiniteQuery({
    queryKey: ["usage", query],
    initialPageParam: null as string | null,
    queryFn: ({ signal, pageParam }) =>
      answered(api.GET("/api/v1/admin/usage", { signal, params: { query: { ...query, limit: PAGE, ...(pageParam !== null && { cursor: pageParam }) } } })),
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: keepPreviousData,
    retry: false,
  });
  // Those of the rows that are shown, which may still be the ones before.
  const names = Object.keys(usage.data?.pages[0]?.rows[0] ?? {}).filter((name) => !SUMS.has(name) && name !== "budget_id");
  const keys = useKeyNames(names.includes("key"));
  const value = (row: Row, name: string) => (name === "key" ? (keys.get(text(row, name)) ?? text(row, name)) : text(row, name));
  const label = (name: string) => (isGroup(name) ? t.usage.groups[name] : name.replace(/^tag:/, ""));
  const columns: Column<Row>[] = [
    ...names.map((name): Column<Row> => ({
      id: name,
      header: label(name),
      sortBy: (row) => text(row, name),
      cell: (row) => (name === "key" && text(row, name).startsWith("key_") ? <a href={`#/keys/${text(row, name)}`}>{value(row, name)}</a> : text(row, name) || t.usage.none),
    })),
    { id: "cost", header: t.usage.cost, numeric: true, sortBy: (row) => ({ decimal: row.cost_usd }), cell: (row) => <Usd amount={row.cost_usd} /> },
    { id: "requests", header: t.usage.requests, numeric: true, sortBy: (row) => row.requests, cell: (row) => format.count(row.requests) },
    { id: "input", header: t.usage.input, numeric: true, minor: true, sortBy: (row) => row.input_tokens, cell: (row) => format.count(row.input_tokens) },
    { id: "output", header: t.usage.output, numeric: true, minor: true, sortBy: (row) => row.output_tokens, cell: (row) => format.count(row.output_tokens) },
  ];
  return (
    <Answered query={usage}>
      {({ pages }) => {
        const rows = pages.flatMap((page) => page.rows);
        const total = pages[0]?.total;
        const windows = pages[0] && "windows" in pages[0] ? pages[0].windows : [];
        if (rows.length === 0 || total === undefined) return <Empty>{t.usage.nothing}</Empty>;
        return (
          <>
            {usage.error && <Failure error={usage.error} />}
            <dl className="card totals" aria-label={t.usage.total}>
              <Total name={t.usage.total} value={<Usd amount={total.cost_usd} />} />
              <Total name={t.usage.requests} value={format.count(total.requests)} />
              <Total name={t.usage.input} value={format.count(total.input_tokens)} />
              <Total name={t.usage.output} value={format.count(total.output_tokens)} />
              {windows.map((window) => (
                <Total key={window.id} name={t.usage.window(window.id)} value={format.usd(window.spent_usd)} />
              ))}
            </dl>
            <section className="card">
              {usage.hasNextPage && <p className="note">{t.usage.partly}</p>}
              {names[0] === "day" ? (
                <DayChart label={t.pages.usage} points={rows.map((row) => ({ day: text(row, "day"), series: names.filter((name) => name !== "day").map((name) => value(row, name)).filter(Boolean).join(" · ") || t.usage.total, amount: row.cost_usd }))} />
              ) : (
                <RankChart
                  label={t.pages.usage}
                  rows={rows
                    .map((row) => ({ id: JSON.stringify(row), name: names.map((name) => value(row, name) || t.usage.none).join(" · "), amount: row.cost_usd }))
                    .sort((one, other) => compareDecimals(other.amount, one.amount))
                    .slice(0, RANKED)}
                />
              )}
            </section>
            <section className="card flush">
              <DataTable caption={t.pages.usage} columns={columns} rows={rows} rowKey={(row) => JSON.stringify(row)} />
            </section>
            {usage.hasNextPage && (
              <p className="more">
                <button type="button" className="button" disabled={usage.isFetchingNextPage} onClick={() => void usage.fetchNextPage()}>
                  {t.actions.more}
                </button>
              </p>
            )}
          </>
        );
      }}
    </Answered>
  );
}

const SUMS: ReadonlySet<string> = new Set(["cost_usd", "requests", "input_tokens", "output_tokens"]);

function isGroup(name: string): name is (typeof GROUPS)[number] {
  return (GROUPS as readonly string[]).includes(name);
}

function text(row: Row, name: string): string {
  const value = row[name];
  return value === null || value === undefined ? "" : String(value);
}

function Total({ name, value }: { name: string; value: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** The API's own CSV of what is shown, byte by byte. */
function Download({ query }: { query: Query }) {
  const t = useText();
  const { api } = useSession();
  const download = useMutation({
    mutationFn: async () => {
      const { data } = await api.GET("/api/v1/admin/usage", { params: { query }, headers: { accept: "text/csv" }, parseAs: "blob" });
      if (data === undefined) return;
      const url = URL.createObjectURL(data);
      const link = document.createElement("a");
      link.href = url;
      link.download = `fusewire-usage-${query.month ?? [query.from, query.to].filter(Boolean).join("-")}.csv`;
      link.click();
      URL.revokeObjectURL(url);
    },
  });
  return (
    <>
      <button type="button" className="button primary" disabled={download.isPending} onClick={() => download.mutate()}>
        {t.usage.csv}
      </button>
      {download.error && <Failure error={download.error} />}
    </>
  );
}
