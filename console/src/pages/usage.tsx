import { keepPreviousData, useInfiniteQuery, useMutation, useQuery } from "@tanstack/react-query";
import { useMemo, useState, type ReactNode } from "react";
import type { Schema } from "../api/client";
import type { paths } from "../api/schema";
import { daysAgo } from "../format/days";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { DayChart, RankChart } from "../parts/chart";
import { Checks, SelectField, TextField } from "../parts/fields";
import { Answered, Empty, Failure, More } from "../parts/states";
import { DataTable, type Column } from "../parts/table";
import { Usd } from "../parts/usd";
import { answered, useSession } from "../session";
import { Head } from "../shell";
import { useNodes } from "./budgets";
import { KeyField, isKeyId } from "./key-field";
import { KeyOf, text } from "./usage-row";

type Query = NonNullable<paths["/api/v1/admin/usage"]["get"]["parameters"]["query"]>;
type Row = Schema["UsageRow"];

const GROUPS = ["day", "provider", "model", "tier", "key", "budget"] as const;
const PAGE = 200;
const RANKED = 12;
const MAX_SERVED = 500;

export default function UsagePage() {
  const t = useText();
  const { me } = useSession();
  const [month, setMonth] = useState("");
  const [from, setFrom] = useState(daysAgo(29, me.timezone));
  const [to, setTo] = useState(daysAgo(0, me.timezone));
  const [groups, setGroups] = useState<readonly string[]>(["day", "model"]);
  const [tag, setTag] = useState("");
  const [budget, setBudget] = useState("");
  const [key, setKey] = useState("");
  const [provider, setProvider] = useState("");
  const [model, setModel] = useState("");
  const nodes = useNodes();
  const range = useMemo(() => (month ? { month } : { ...(from && { from }), ...(to && { to }) }), [month, from, to]);
  const query = useMemo<Query>(() => {
    const named = [...groups, ...(tag.trim() ? [`tag:${tag.trim()}`] : [])];
    return {
      group_by: (named.length > 0 ? named : ["day"]) as NonNullable<Query["group_by"]>,
      ...range,
      ...(budget && { budget }),
      ...(isKeyId(key) && { key }),
      ...(provider && { provider }),
      ...(model && { model }),
    };
  }, [groups, tag, range, budget, key, provider, model]);
  const served = useServed(range);
  const providers = [...new Set(served.map((row) => text(row, "provider")))];
  const models = [...new Set(served.filter((row) => !provider || text(row, "provider") === provider).map((row) => text(row, "model")))].sort();

  function chargeback() {
    setMonth(daysAgo(0, me.timezone).slice(0, 7));
    setGroups(["key", "budget"]);
    setTag("");
    setBudget("");
    setKey("");
    setProvider("");
    setModel("");
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
        <KeyField label={t.usage.ofKey} value={key} onChange={setKey} />
        <SelectField label={t.usage.groups.provider} value={provider} onChange={(chosen) => (setProvider(chosen), setModel(""))} options={options(providers, provider, t.usage.everywhere)} />
        <SelectField label={t.usage.groups.model} value={model} onChange={setModel} options={options(models, model, t.usage.everywhere)} />
        <p className="muted small">{t.usage.zone(me.timezone)}</p>
      </section>
      <Report query={query} />
    </>
  );
}

/** The one that is chosen is there, also where nothing of it was spent. */
function options(found: readonly string[], chosen: string, all: string) {
  const names = chosen === "" || found.includes(chosen) ? found : [chosen, ...found];
  return [{ value: "", label: all }, ...names.map((name) => ({ value: name, label: name }))];
}

/** The providers and models that there is usage of. */
function useServed(range: Pick<Query, "month" | "from" | "to">): readonly Row[] {
  const { api } = useSession();
  const served = useQuery({
    queryKey: ["usage", "served", range],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/usage", { signal, params: { query: { ...range, group_by: ["provider", "model"], limit: MAX_SERVED } } })),
    placeholderData: keepPreviousData,
    retry: false,
  });
  return served.data?.rows ?? [];
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
  const names = Object.keys(usage.data?.pages[0]?.rows[0] ?? {}).filter((name) => !SUMS.has(name) && name !== "budget_id" && name !== "key_name");
  const value = (row: Row, name: string) => (name === "key" && text(row, "key_name")) || text(row, name);
  const label = (name: string) => (isGroup(name) ? t.usage.groups[name] : name.replace(/^tag:/, ""));
  const columns: Column<Row>[] = [
    ...names.map((name): Column<Row> => ({
      id: name,
      header: label(name),
      sortBy: (row) => value(row, name),
      cell: (row) => (name === "key" && text(row, name) ? <KeyOf row={row} /> : text(row, name) || t.usage.none),
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
              {usage.hasNextPage && names[0] === "day" && <p className="note">{t.usage.partly}</p>}
              {names[0] === "day" ? (
                <DayChart label={t.pages.usage} points={rows.map((row) => ({ day: text(row, "day"), series: names.filter((name) => name !== "day").map((name) => value(row, name)).filter(Boolean).join(" · ") || t.usage.total, amount: row.cost_usd }))} />
              ) : (
                <Dearest query={query} nameOf={(row) => names.map((name) => value(row, name) || t.usage.none).join(" · ")} />
              )}
            </section>
            <section className="card flush">
              <DataTable caption={t.pages.usage} columns={columns} rows={rows} rowKey={(row) => JSON.stringify(row)} />
            </section>
            <More query={usage} />
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

/** The groups that cost the most, whatever page they are on. */
function Dearest({ query, nameOf }: { query: Query; nameOf: (row: Row) => string }) {
  const t = useText();
  const { api } = useSession();
  const dearest = useQuery({
    queryKey: ["usage", "dearest", query],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/usage", { signal, params: { query: { ...query, sort: "cost", limit: RANKED } } })),
    placeholderData: keepPreviousData,
    retry: false,
  });
  return (
    <Answered query={dearest}>
      {({ rows }) => <RankChart label={t.pages.usage} rows={rows.map((row) => ({ id: JSON.stringify(row), name: nameOf(row), amount: row.cost_usd }))} />}
    </Answered>
  );
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
