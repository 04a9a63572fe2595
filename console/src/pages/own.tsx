/** What a key without `read` for the company sees of itself. */
import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { daysAgo } from "../format/days";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { Gauge, StateBadge } from "../parts/gauge";
import { Answered } from "../parts/states";
import { Usd } from "../parts/usd";
import { answered, useSession, type Me } from "../session";
import { Head } from "../shell";
import { Scopes } from "./keys";
import { DAYS, MAX_ROWS, SpendByDay } from "./spend-by-day";

export default function Own() {
  const t = useText();
  const format = useFormat();
  const { api } = useSession();
  const me = useQuery({
    queryKey: ["me"],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/me", { signal })),
    refetchInterval: 10_000,
  });
  return (
    <>
      <Head title={t.pages.me}>{me.dataUpdatedAt > 0 && <span className="muted small">{t.overview.asOf(format.precise(me.dataUpdatedAt))}</span>}</Head>
      <Answered query={me}>{(found) => <Standing me={found} />}</Answered>
      <OwnByDay />
    </>
  );
}

function OwnByDay() {
  const { api, me } = useSession();
  const usage = useQuery({
    queryKey: ["usage", "own"],
    queryFn: ({ signal }) =>
      answered(api.GET("/api/v1/me/usage", { signal, params: { query: { group_by: ["day", "model"], from: daysAgo(DAYS - 1, me.timezone), limit: MAX_ROWS } } })),
    refetchInterval: 60_000,
  });
  return <SpendByDay usage={usage} group="model" />;
}

function Standing({ me }: { me: Me }) {
  const t = useText();
  const format = useFormat();
  const facts: [string, ReactNode][] = [
    ["ID", <code key="id">{me.id ?? "–"}</code>],
    [t.keys.scopes, <Scopes key="scopes" scopes={me.scopes} />],
    ...(me.scope_budget ? ([[t.keys.boundTo, me.scope_budget.name]] as [string, ReactNode][]) : []),
    [t.budget.reserved, me.reserved_usd === null ? "–" : format.usd(me.reserved_usd)],
    [t.budget.remaining, me.remaining_usd === null ? "–" : format.usd(me.remaining_usd)],
    [t.budget.resets, me.window?.resets_at ? format.moment(me.window.resets_at) : "–"],
    [t.keys.perUser, me.per_user_limit_usd === null ? "–" : format.usd(me.per_user_limit_usd)],
    [t.keys.requests, limit(me.requests_per_minute, me.minute?.requests_left, format.count, t.keys.left)],
    [t.keys.tokens, limit(me.tokens_per_minute, me.minute?.tokens_left, format.count, t.keys.left)],
    [t.keys.models, me.allowed_models?.join(", ") ?? t.keys.all],
    [t.keys.expires, me.expires_at ? format.moment(me.expires_at) : t.budget.never],
  ];
  return (
    <section className="card" aria-label={t.pages.me}>
      <div className="card-head">
        <h2>{me.name ?? me.id ?? t.shell.nobody}</h2>
        {me.state && <StateBadge state={me.state} />}
      </div>
      {me.current_spend_usd !== null && (
        <>
          <p className="figure">
            <b>
              <Usd amount={me.current_spend_usd} />
            </b>
            <span className="muted">{me.monthly_budget_usd === null ? t.budget.noLimit : t.budget.of(format.usd(me.monthly_budget_usd))}</span>
          </p>
          {me.monthly_budget_usd !== null && (
            <Gauge label={t.pages.me} spent={me.current_spend_usd} reserved={me.reserved_usd ?? "0"} limit={me.monthly_budget_usd} state={me.state ?? "CLOSED"} />
          )}
        </>
      )}
      <dl className="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function limit(most: number | null, left: number | null | undefined, count: (number: number) => string, words: (left: string) => string): string {
  if (most === null) return "–";
  return left === null || left === undefined ? count(most) : `${count(most)} (${words(count(left))})`;
}
