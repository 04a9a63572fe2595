import { useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schema } from "../api/client";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { FormDialog } from "../parts/dialog";
import { Answered } from "../parts/states";
import { answered, useSession } from "../session";
import { Head } from "../shell";
import { ProviderStatus } from "./provider-status";

type Provider = Schema["ProviderResponse"];
type Probes = ReadonlyMap<string, Schema["ProbeResponse"] | null>;

export default function Providers() {
  const t = useText();
  const { api, may } = useSession();
  const [asking, setAsking] = useState(false);
  const [probes, setProbes] = useState<Probes>(new Map());
  const providers = useQuery({
    queryKey: ["providers"],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/providers", { signal })),
    refetchInterval: 15_000,
  });
  return (
    <>
      <Head title={t.pages.providers}>
        {may.administersCompany && (
          <button type="button" className="button primary" onClick={() => setAsking(true)}>
            {t.providers.probe}
          </button>
        )}
      </Head>
      <Answered query={providers}>
        {({ mode, chain, providers: all }) => (
          <>
            <p className="muted">
              {t.providers.mode}: <b>{mode}</b> · {t.providers.chain}: <b>{chain.join(" → ") || "–"}</b>
            </p>
            <div className="cards">
              {[...all]
                .sort((one, other) => place(chain, one) - place(chain, other))
                .map((provider) => (
                  <ProviderCard key={provider.id} provider={provider} probe={probes.get(provider.id) ?? null} />
                ))}
            </div>
            {asking && <Probe providers={all.filter(({ id }) => chain.includes(id))} onClose={() => setAsking(false)} onDone={setProbes} />}
          </>
        )}
      </Answered>
    </>
  );
}

/** Those that are tried, in their order; then the configured; then the others. */
function place(chain: readonly string[], provider: Provider): number {
  const at = chain.indexOf(provider.id);
  return at >= 0 ? at : provider.configured ? chain.length : chain.length + 1;
}

function ProviderCard({ provider, probe }: { provider: Provider; probe: Schema["ProbeResponse"] | null }) {
  const t = useText();
  const format = useFormat();
  const { last_failure: failure } = provider;
  return (
    <section className={provider.configured ? "card" : "card faint"} aria-labelledby={`provider-${provider.id}`}>
      <div className="card-head">
        <h2 id={`provider-${provider.id}`}>{provider.id}</h2>
        <ProviderStatus status={provider.status} />
      </div>
      {provider.configured ? (
        <dl className="facts">
          {(["sota", "cost_effective"] as const).map((tier) => (
            <div key={tier}>
              <dt>{tier}</dt>
              <dd>{provider.tiers[tier] ?? "–"}</dd>
            </div>
          ))}
          <div>
            <dt>{t.providers.lastSuccess}</dt>
            <dd>{provider.last_success_at ? format.moment(provider.last_success_at) : "–"}</dd>
          </div>
          {provider.key_expires_on && (
            <div>
              <dt>{t.providers.keyExpires}</dt>
              <dd>{format.wholeDay(provider.key_expires_on)}</dd>
            </div>
          )}
        </dl>
      ) : (
        <p>
          {t.providers.missing} <code>{provider.missing.join(", ")}</code>
        </p>
      )}
      {provider.cooldown_until && <p className="note warn">{t.providers.cooldown(format.precise(provider.cooldown_until))}</p>}
      {provider.status === "credential_rejected" && <p className="note bad">{t.providers.rejected}</p>}
      {failure && (
        <div className="note bad">
          <p className="small">
            {t.providers.lastFailure}: {format.precise(failure.at)} {failure.kind && <code>{failure.kind}</code>}
          </p>
          <p>{failure.message}</p>
        </div>
      )}
      {probe && (
        <p className={probe.ok ? "note good" : "note bad"} role="status">
          {t.providers.probed(probe.message, format.usd(probe.cost_usd))}
        </p>
      )}
    </section>
  );
}

/** A probe is a real call of each provider: its price is shown before. */
function Probe({ providers, onClose, onDone }: { providers: Provider[]; onClose: () => void; onDone: (probes: Probes) => void }) {
  const t = useText();
  const format = useFormat();
  const { api } = useSession();
  const models = useQuery({ queryKey: ["models"], queryFn: ({ signal }) => answered(api.GET("/api/v1/models", { signal })) });
  const probe = useMutation({
    mutationFn: () => answered(api.GET("/api/v1/admin/providers", { params: { query: { probe: true } } })),
    onSuccess: ({ providers: probed }) => {
      onDone(new Map(probed.map((each) => [each.id, "probe" in each ? each.probe : null])));
      onClose();
    },
  });
  const priceOf = (provider: Provider): string => {
    const model = provider.tiers.cost_effective ?? provider.tiers.sota;
    const listed = models.data?.data.find((each) => each.id === `${provider.id}/${model}`);
    const price = listed && listed.kind !== "tier" && listed.kind !== "alias" ? listed.price : null;
    const [input, output] = [price?.["input_mtok"], price?.["output_mtok"]];
    return input === undefined || output === undefined ? t.models.noPrice : t.providers.probePrice(format.usd(input), format.usd(output));
  };
  return (
    <FormDialog title={t.providers.probe} action={t.providers.probeNow} busy={probe.isPending} error={probe.error} onSubmit={() => probe.mutate()} onClose={onClose}>
      <p>{t.providers.probeWhat}</p>
      <ul className="prices">
        {providers.map((provider) => (
          <li key={provider.id}>
            <b>{provider.id}</b> <span>{provider.tiers.cost_effective ?? provider.tiers.sota ?? "–"}</span> <span className="muted">{priceOf(provider)}</span>
          </li>
        ))}
      </ul>
    </FormDialog>
  );
}
