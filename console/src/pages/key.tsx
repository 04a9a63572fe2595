import { useQuery } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";
import type { Schema } from "../api/client";
import { daysAgo } from "../format/days";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { Gauge } from "../parts/gauge";
import { Answered } from "../parts/states";
import { Usd } from "../parts/usd";
import { answered, useSession } from "../session";
import { Head } from "../shell";
import { NodeName } from "./node-name";
import { KeyForm, RevokeForm, RotateForm, Secret } from "./key-forms";
import { KeyState, Scopes } from "./keys";
import { ResetForm } from "./reset-form";
import { DAYS, MAX_ROWS, SpendByDay } from "./spend-by-day";

type Form = "change" | "rotate" | "revoke" | "reset";

export default function KeyPage({ params }: { params: Record<string, string> }) {
  const t = useText();
  const id = params["id"] ?? "";
  const { api, may } = useSession();
  const [form, setForm] = useState<Form | null>(null);
  const [made, setMade] = useState<Schema["KeyWithSecret"] | null>(null);
  const key = useQuery({
    queryKey: ["keys", id],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/keys/{id}", { signal, params: { path: { id } } })),
  });
  const close = () => setForm(null);
  return (
    <>
      <p className="crumb">
        <a href="#/keys">← {t.pages.keys}</a>
      </p>
      <Answered query={key}>
        {(shown) => (
          <>
            <Head title={shown.name}>
              {may.admin && shown.revoked_at === null && (
                <>
                  <button type="button" className="button" onClick={() => setForm("change")}>
                    {t.actions.change}
                  </button>
                  <button type="button" className="button" onClick={() => setForm("rotate")}>
                    {t.keys.rotate}
                  </button>
                  <button type="button" className="button" onClick={() => setForm("reset")}>
                    {t.actions.reset}
                  </button>
                  <button type="button" className="button danger" onClick={() => setForm("revoke")}>
                    {t.keys.revoke}
                  </button>
                </>
              )}
            </Head>
            <Standing shown={shown} />
            <KeyByDay id={id} />
            {form === "change" && <KeyForm shown={shown} onClose={close} />}
            {form === "rotate" && <RotateForm shown={shown} onClose={close} onMade={setMade} />}
            {form === "revoke" && <RevokeForm shown={shown} onClose={close} />}
            {form === "reset" && (
              <ResetForm
                name={shown.name}
                standing={shown}
                reset={(reason) => answered(api.POST("/api/v1/admin/keys/{id}/reset", { params: { path: { id } }, body: { reason } }))}
                onClose={close}
              />
            )}
            {made && <Secret made={made} onClose={() => setMade(null)} />}
          </>
        )}
      </Answered>
    </>
  );
}

function Standing({ shown }: { shown: Schema["KeyWithForecast"] }) {
  const t = useText();
  const format = useFormat();
  const limit = shown.monthly_budget_usd;
  const facts: [string, ReactNode][] = [
    ["ID", <code key="id">{shown.id}</code>],
    [t.keys.prefix, <code key="prefix">{shown.prefix}…</code>],
    [t.keys.scopes, <Scopes key="scopes" scopes={shown.scopes} />],
    [t.keys.under, shown.budget_id === null ? t.budget.company : <NodeName key="under" id={shown.budget_id} />],
    ...(shown.scope_budget_id ? ([[t.keys.boundTo, <NodeName key="bound" id={shown.scope_budget_id} />]] as [string, ReactNode][]) : []),
    [t.budgets.period, t.periods[shown.period]],
    [t.budget.reserved, format.usd(shown.reserved_usd)],
    [t.budget.monthEnd, shown.forecast.month_end_usd === null ? t.budget.tooEarly : format.usd(shown.forecast.month_end_usd)],
    [t.keys.perUser, shown.per_user_limit_usd === null ? "–" : format.usd(shown.per_user_limit_usd)],
    [t.keys.requests, shown.requests_per_minute === null ? "–" : format.count(shown.requests_per_minute)],
    [t.keys.tokens, shown.tokens_per_minute === null ? "–" : format.count(shown.tokens_per_minute)],
    [t.keys.models, shown.allowed_models?.join(", ") ?? t.keys.all],
    [t.keys.classified, shown.allowed_classifications?.join(", ") ?? t.keys.all],
    [t.keys.expires, shown.expires_at ? format.moment(shown.expires_at) : t.budget.never],
    [t.keys.tags, Object.entries(shown.tags).map(([tag, value]) => `${tag}=${value}`).join(", ") || "–"],
    [t.keys.created, t.keys.createdBy(format.moment(shown.created_at), shown.created_by)],
  ];
  return (
    <section className="card" aria-label={shown.name}>
      <div className="card-head">
        <p className="figure">
          <b>
            <Usd amount={shown.current_spend_usd} />
          </b>
          <span className="muted">{limit === null ? t.budget.noLimit : t.budget.of(format.usd(limit))}</span>
        </p>
        <KeyState shown={shown} />
      </div>
      {limit !== null && <Gauge label={shown.name} spent={shown.current_spend_usd} reserved={shown.reserved_usd} limit={limit} state={shown.state} />}
      <dl className="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <p>
        <a href={`#/calls?key=${encodeURIComponent(shown.id)}`}>{t.keys.calls}</a>
      </p>
    </section>
  );
}

function KeyByDay({ id }: { id: string }) {
  const { api, me } = useSession();
  const usage = useQuery({
    queryKey: ["usage", "key", id],
    queryFn: ({ signal }) =>
      answered(
        api.GET("/api/v1/admin/usage", {
          signal,
          params: { query: { group_by: ["day", "model"], key: id, from: daysAgo(DAYS - 1, me.timezone), limit: MAX_ROWS } },
        }),
      ),
  });
  return <SpendByDay usage={usage} group="model" />;
}
