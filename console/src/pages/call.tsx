import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { Copy } from "../parts/copy";
import { Answered } from "../parts/states";
import { answered, useSession } from "../session";
import { Head } from "../shell";
import { outcomeKind, outcomeWords, type Attempt } from "./calls";

export default function CallPage({ params }: { params: Record<string, string> }) {
  const t = useText();
  const format = useFormat();
  const { api } = useSession();
  const id = params["id"] ?? "";
  const call = useQuery({
    queryKey: ["calls", "one", id],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/calls/{request_id}", { signal, params: { path: { request_id: id } } })),
    // While something of it is under way.
    refetchInterval: ({ state }) => (state.data?.attempts.some((attempt) => attempt.status === "reserved") ? 2_000 : false),
  });
  return (
    <>
      <p className="crumb">
        <a href="#/calls">← {t.pages.calls}</a>
      </p>
      <Head title={t.calls.one} />
      <p className="request-id">
        <code>{id}</code> <Copy text={id} />
      </p>
      <Answered query={call}>
        {({ attempts, cost_usd: cost }) => (
          <>
            <dl className="card totals">
              <div>
                <dt>{t.calls.cost}</dt>
                <dd>{format.usd(cost)}</dd>
              </div>
              <div>
                <dt>{t.calls.attempts}</dt>
                <dd>{format.count(attempts.length)}</dd>
              </div>
            </dl>
            <ol className="timeline" aria-label={t.calls.attempts}>
              {attempts.map((attempt) => (
                <TimelineEntry key={attempt.id} attempt={attempt} start={attempts[0]?.reserved_at ?? attempt.reserved_at} />
              ))}
            </ol>
          </>
        )}
      </Answered>
    </>
  );
}

function TimelineEntry({ attempt, start }: { attempt: Attempt; start: string }) {
  const t = useText();
  const format = useFormat();
  const after = Date.parse(attempt.reserved_at) - Date.parse(start);
  const took = attempt.ended_at === null ? null : Date.parse(attempt.ended_at) - Date.parse(attempt.reserved_at);
  const facts: [string, ReactNode][] = [
    [t.calls.reservedAt, `${format.precise(attempt.reserved_at)} (+${format.count(after)} ms)`],
    [t.calls.took, took === null ? t.calls.underWay(format.precise(attempt.expires_at)) : `${format.count(took)} ms`],
    [t.calls.bound, format.usd(attempt.bound_usd)],
    [t.calls.cost, attempt.cost_usd === null ? "–" : format.usd(attempt.cost_usd)],
    [t.calls.basis, attempt.cost_basis === null ? "–" : t.calls.bases[attempt.cost_basis]],
    [t.calls.tokens, tokensOf(attempt, format.count)],
    [t.calls.operation, attempt.operation],
    [t.calls.tier, attempt.tier ?? "–"],
    [t.calls.key, attempt.key_id?.startsWith("key_") ? <a key="key" href={`#/keys/${attempt.key_id}`}>{attempt.key_id}</a> : (attempt.key_id ?? "–")],
  ];
  return (
    <li className={`card ${outcomeKind(attempt)}`}>
      <div className="card-head">
        <h2>
          {format.count(attempt.attempt)}. {attempt.provider} · {attempt.model}
        </h2>
        <span className={`badge ${outcomeKind(attempt)}`}>{outcomeWords(attempt, t)}</span>
      </div>
      <dl className="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {outcomeKind(attempt) === "bad" && <p className="note">{t.calls.failed}</p>}
    </li>
  );
}

function tokensOf(attempt: Attempt, count: (number: number) => string): string {
  if (attempt.input_tokens === null) return "–";
  return `${count(attempt.input_tokens)} → ${count(attempt.output_tokens ?? 0)}`;
}
