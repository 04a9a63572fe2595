import { useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import type { Schema } from "../api/client";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { Gauge, StateBadge } from "../parts/gauge";
import { TextField } from "../parts/fields";
import { Answered, Empty } from "../parts/states";
import { DataTable, type Column } from "../parts/table";
import { Usd } from "../parts/usd";
import { answered, useSession } from "../session";
import { Head } from "../shell";
import { KeyForm, Secret } from "./key-forms";

export type Key = Schema["KeyResponse"];

const PAGE = 100;
const SEARCHED_PAGE = 1000;

export default function Keys() {
  const t = useText();
  const format = useFormat();
  const { api, may } = useSession();
  const [search, setSearch] = useState("");
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState<Schema["KeyWithSecret"] | null>(null);
  const wanted = search.trim().toLowerCase();
  const keys = useInfiniteQuery({
    queryKey: ["keys"],
    initialPageParam: null as string | null,
    queryFn: ({ signal, pageParam }) =>
      answered(
        api.GET("/api/v1/admin/keys", {
          signal,
          params: { query: pageParam === null ? { limit: PAGE } : { limit: SEARCHED_PAGE, cursor: pageParam } },
        }),
      ),
    getNextPageParam: (page) => page.next_cursor,
  });
  const { hasNextPage, isFetchingNextPage, isFetchNextPageError, fetchNextPage } = keys;
  // The API doesn't search: a search asks for the pages that are left, one after the other.
  useEffect(() => {
    if (wanted !== "" && hasNextPage && !isFetchingNextPage && !isFetchNextPageError) void fetchNextPage();
  }, [wanted, hasNextPage, isFetchingNextPage, isFetchNextPageError, fetchNextPage]);

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
          const all = pages.flatMap((page) => page.rows);
          const found = wanted === "" ? all : all.filter((key) => matches(key, wanted));
          return (
            <>
              {found.length === 0 && !isFetchingNextPage ? (
                <Empty>{wanted === "" ? t.keys.none : t.keys.notFound}</Empty>
              ) : (
                <section className="card flush">
                  <DataTable caption={t.pages.keys} columns={columns} rows={found.slice(0, wanted === "" ? undefined : PAGE)} rowKey={(key) => key.id} />
                </section>
              )}
              <p className="more" role="status">
                <span className="muted small">{t.keys.shown(format.count(Math.min(found.length, wanted === "" ? found.length : PAGE)), format.count(all.length))}</span>
                {hasNextPage && wanted === "" && (
                  <button type="button" className="button" disabled={isFetchingNextPage} onClick={() => void fetchNextPage()}>
                    {isFetchingNextPage ? t.states.loading : t.actions.more}
                  </button>
                )}
              </p>
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

function matches(key: Key, wanted: string): boolean {
  return [key.name, key.id, key.prefix, ...Object.entries(key.tags).flat()].some((each) => each.toLowerCase().includes(wanted));
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
