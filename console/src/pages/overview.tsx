import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schema } from "../api/client";
import { daysAgo } from "../format/days";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { Gauge, StateBadge } from "../parts/gauge";
import { RankChart } from "../parts/chart";
import { SelectField } from "../parts/fields";
import { Answered, Empty } from "../parts/states";
import { Usd } from "../parts/usd";
import { answered, useSession } from "../session";
import { Head } from "../shell";
import { ProviderStatus } from "./provider-status";
import { DAYS, MAX_ROWS, SpendByDay } from "./spend-by-day";
import { KeyOf, text } from "./usage-row";

const EVERY_MILLISECONDS = 10_000;
const TOP = 8;

export default function Overview() {
  const t = useText();
  const format = useFormat();
  const { api } = useSession();
  const budget = useQuery({
    queryKey: ["budget"],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/budget", { signal })),
    refetchInterval: EVERY_MILLISECONDS,
  });
  return (
    <>
      <Head title={t.pages.overview}>
        {budget.dataUpdatedAt > 0 && <span className="muted small">{t.overview.asOf(format.precise(budget.dataUpdatedAt))}</span>}
      </Head>
      <Answered query={budget}>{(found) => <Budget budget={found} />}</Answered>
      <div className="columns">
        <CompanyByDay />
        <TopSpenders />
      </div>
      <Providers />
    </>
  );
}

function Budget({ budget }: { budget: Schema["BudgetResponse"] }) {
  const t = useText();
  const format = useFormat();
  const { exhausted_at: exhausted, month_end_usd: monthEnd } = budget.forecast;
  return (
    <section className="card" aria-labelledby="budget-title">
      <div className="card-head">
        <h2 id="budget-title">{t.budget.company}</h2>
        <StateBadge state={budget.state} />
      </div>
      <p className="figure">
        <b>
          <Usd amount={budget.current_spend_usd} />
        </b>
        <span className="muted">
          {t.budget.of(format.usd(budget.monthly_limit_usd))} ({format.percent(budget.usage_ratio)})
        </span>
      </p>
      <Gauge label={t.budget.company} spent={budget.current_spend_usd} reserved={budget.reserved_usd} limit={budget.monthly_limit_usd} state={budget.state} marks={[budget.alert_threshold, budget.open_threshold]} labelled />
      <dl className="facts three">
        <Fact name={t.budget.reserved} value={format.usd(budget.reserved_usd)} />
        <Fact name={t.budget.remaining} value={format.usd(budget.remaining_usd)} />
        <Fact name={t.budget.resets} value={budget.window.resets_at ? format.moment(budget.window.resets_at) : t.budget.never} />
        <Fact name={t.budget.monthEnd} value={monthEnd === null ? t.budget.tooEarly : format.usd(monthEnd)} />
        <Fact name={t.budget.exhausted} value={exhausted === null ? "–" : format.moment(exhausted)} bad={exhausted !== null} />
        <Fact
          name={t.budget.waiting}
          value={budget.waiting === 0 ? "0" : t.budget.waitingFor(format.count(budget.waiting), format.decimal(budget.longest_wait_seconds))}
        />
      </dl>
    </section>
  );
}

function Fact({ name, value, bad = false }: { name: string; value: string; bad?: boolean }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className={bad ? "bad-text" : undefined}>{value}</dd>
    </div>
  );
}

function CompanyByDay() {
  const t = useText();
  const { api, me } = useSession();
  const [group, setGroup] = useState<"provider" | "model">("provider");
  const usage = useQuery({
    queryKey: ["usage", "days", group],
    queryFn: ({ signal }) =>
      answered(api.GET("/api/v1/admin/usage", { signal, params: { query: { group_by: ["day", group], from: daysAgo(DAYS - 1, me.timezone), limit: MAX_ROWS } } })),
    refetchInterval: 6 * EVERY_MILLISECONDS,
    placeholderData: keepPreviousData,
  });
  return (
    <SpendByDay usage={usage} group={group}>
      <SelectField
        label={t.overview.stackedBy}
        value={group}
        options={[
          { value: "provider", label: t.usage.groups.provider },
          { value: "model", label: t.usage.groups.model },
        ]}
        onChange={(value) => setGroup(value as typeof group)}
      />
    </SpendByDay>
  );
}

function TopSpenders() {
  const t = useText();
  const { api } = useSession();
  const [group, setGroup] = useState<"key" | "budget">("key");
  const usage = useQuery({
    queryKey: ["usage", "top", group],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/usage", { signal, params: { query: { group_by: [group], sort: "cost", limit: TOP } } })),
    refetchInterval: 6 * EVERY_MILLISECONDS,
    placeholderData: keepPreviousData,
  });
  return (
    <section className="card" aria-labelledby="top-title">
      <div className="card-head">
        <h2 id="top-title">{t.overview.top}</h2>
        <SelectField
          label={t.overview.by}
          value={group}
          options={[
            { value: "key", label: t.usage.groups.key },
            { value: "budget", label: t.usage.groups.budget },
          ]}
          onChange={(value) => setGroup(value as typeof group)}
        />
      </div>
      <Answered query={usage}>
        {({ rows }) =>
          rows.length === 0 ? (
            <Empty>{t.usage.nothing}</Empty>
          ) : (
            <RankChart
              label={t.overview.top}
              rows={rows.map((row) => ({
                id: text(row, group === "key" ? "key" : "budget_id"),
                amount: row.cost_usd,
                name: group === "key" ? <KeyOf row={row} /> : text(row, "budget") || t.usage.none,
              }))}
            />
          )
        }
      </Answered>
    </section>
  );
}

function Providers() {
  const t = useText();
  const { api } = useSession();
  const providers = useQuery({
    queryKey: ["providers"],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/providers", { signal })),
    refetchInterval: 3 * EVERY_MILLISECONDS,
  });
  return (
    <section className="card" aria-labelledby="providers-title">
      <h2 id="providers-title">{t.pages.providers}</h2>
      <Answered query={providers}>
        {({ providers: all }) => (
          <ul className="chips">
            {all
              .filter((provider) => provider.configured)
              .map((provider) => (
                <li key={provider.id}>
                  <a className="chip" href="#/providers">
                    <b>{provider.id}</b> <ProviderStatus status={provider.status} />
                  </a>
                </li>
              ))}
          </ul>
        )}
      </Answered>
    </section>
  );
}
