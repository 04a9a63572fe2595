import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import type { Schema } from "../api/client";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { Gauge, StateBadge } from "../parts/gauge";
import { TextField } from "../parts/fields";
import { Answered, Empty, More } from "../parts/states";
import { DataTable, type Column } from "../parts/table";
import { Usd } from "../parts/usd";
import { answered, useSession } from "../session";
import { Head } from "../shell";
import { KeyForm, Secret } from "./key-forms";

export type Key = Schema["KeyResponse"];

const PAGE = 50;
const MAX_SEARCH = 200;
/** Characters of a secret that the API shows. */
const PREFIX = 11;
const TYPING_MILLISECONDS = 250;

export default function Keys() {
  const t = useText();
  const format = useFormat();
  const { api, may } = useSession();
  const [search, setSearch] = useState("");
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState<Schema["KeyWithSecret"] | null>(null);
  const wanted = useSettled(searched(search), TYPING_MILLISECONDS);
  const keys = useInfiniteQuery({
    queryKey: ["keys", "list", wanted],
    initialPageParam: null as string | null,
    queryFn: ({ signal, pageParam }) =>
      answered(
        api.GET("/api/v1/admin/keys", {
          signal,
          params: { query: { limit: PAGE, ...(wanted && { search: wanted }), ...(pageParam !== null && { cursor: pageParam }) } },
        }),
      ),
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: keepPreviousData,
  });

  const columns: Column<Key>[] = [
    {
      id: "name",
      header: t.keys.name,
      sortBy: (key) => key.name,
      cell: (key) => (
        <span className="stacked">
          <a href={`#/keys/${key.id}`}>{key.name}</a>
          <code className="small muted">{key.prefix}…</code>
        </span>
      ),
    },
    { id: "scopes", header: t.keys.scopes, minor: true, cell: (key) => <Scopes scopes={key.scopes} /> },
    {
      id: "spent",
      header: t.budget.spent,
      numeric: true,
      sortBy: (key) => ({ decimal: key.current_spend_usd }),
      cell: (key) => (
        <div className="standing">
          <span className="small">
            <b>
              <Usd amount={key.current_spend_usd} />
            </b>{" "}
            {key.monthly_budget_usd !== null && <span className="muted">{t.budget.of(format.usd(key.monthly_budget_usd))}</span>}
          </span>
          {key.monthly_budget_usd !== null && (
            <Gauge label={key.name} spent={key.current_spend_usd} reserved={key.reserved_usd} limit={key.monthly_budget_usd} state={key.state} />
          )}
        </div>
      ),
    },
    { id: "state", header: t.budget.state, sortBy: (key) => standingOf(key), cell: (key) => <KeyState shown={key} /> },
    { id: "created", header: t.keys.created, minor: true, sortBy: (key) => key.created_at, cell: (key) => format.date(key.created_at) },
  ];

  return (
    <>
      <Head title={t.pages.keys}>
        {may.admin && (
          <button type="button" className="button primary" onClick={() => setMaking(true)}>
            {t.keys.make}
          </button>
        )}
      </Head>
      <div className="filters">
        <TextField type="search" label={t.keys.search} value={search} onChange={setSearch} />
      </div>
      <Answered query={keys}>
        {({ pages }) => {
          const found = pages.flatMap((page) => page.rows);
          return (
            <>
              {found.length === 0 ? (
                <Empty>{wanted === "" ? t.keys.none : t.keys.notFound}</Empty>
              ) : (
                <section className="card flush">
                  <DataTable caption={t.pages.keys} columns={columns} rows={found} rowKey={(key) => key.id} />
                </section>
              )}
              <p className="muted small" role="status">
                {keys.isPlaceholderData ? t.states.loading : t.keys.shown(format.count(found.length), keys.hasNextPage)}
              </p>
              <More query={keys} />
            </>
          );
        }}
      </Answered>
      {making && (
        <KeyForm
          onClose={() => setMaking(false)}
          onMade={(key) => {
            setMaking(false);
            setMade(key);
          }}
        />
      )}
      {made && <Secret made={made} onClose={() => setMade(null)} />}
    </>
  );
}

/** What is asked for: of a whole secret its prefix alone, since addresses are kept in logs. */
export function searched(text: string): string {
  const wanted = text.trim().slice(0, MAX_SEARCH);
  return wanted.startsWith("fw_") ? wanted.slice(0, PREFIX) : wanted;
}

/** A value once it hasn't changed for a while. */
export function useSettled<T>(value: T, milliseconds: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value, milliseconds]);
  return settled;
}

export function Scopes({ scopes }: { scopes: readonly string[] }) {
  return scopes.map((scope) => (
    <span key={scope} className="badge plain">
      {scope}
    </span>
  ));
}

type Standing = "revoked" | "expired" | Key["state"];

function standingOf(key: Key): Standing {
  if (key.revoked_at !== null) return "revoked";
  return key.expires_at !== null && Date.parse(key.expires_at) < Date.now() ? "expired" : key.state;
}

export function KeyState({ shown }: { shown: Key }) {
  const t = useText();
  const standing = standingOf(shown);
  return standing === "revoked" || standing === "expired" ? <span className="badge plain">{t.keys[standing]}</span> : <StateBadge state={standing} />;
}
