import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import type { Schema } from "../api/client";
import type { Decimal } from "../api/exact";
import { useText } from "../i18n/text";
import { Copy } from "../parts/copy";
import { Dialog, FormDialog } from "../parts/dialog";
import { AmountField, Checks, SelectField, TextArea, TextField } from "../parts/fields";
import { answered, useSession } from "../session";
import { changed, useDone } from "./budget-forms";
import { useNodes } from "./budgets";
import type { Key } from "./keys";

const SCOPES = ["complete", "read", "admin"] as const;
type Scope = (typeof SCOPES)[number];
const CLASSIFICATIONS = ["public", "internal", "confidential"] as const;
type Classification = (typeof CLASSIFICATIONS)[number];

interface KeyFormProps {
  /** The one to change; none: a new one. */
  shown?: Key;
  onClose: () => void;
  onMade?: (made: Schema["KeyWithSecret"]) => void;
}

export function KeyForm({ shown, onClose, onMade }: KeyFormProps) {
  const t = useText();
  const { api, me } = useSession();
  const done = useDone(onClose);
  const nodes = useNodes();
  const bound = me.scope_budget?.id ?? "";
  const [name, setName] = useState(shown?.name ?? "");
  const [scopes, setScopes] = useState<readonly string[]>(shown?.scopes ?? ["complete"]);
  const [scopeBudget, setScopeBudget] = useState(shown?.scope_budget_id ?? bound);
  const [budget, setBudget] = useState(shown?.budget_id ?? bound);
  const [limit, setLimit] = useState<string>(shown?.monthly_budget_usd ?? "");
  const [period, setPeriod] = useState<Key["period"]>(shown?.period ?? "month");
  const [perUser, setPerUser] = useState<string>(shown?.per_user_limit_usd ?? "");
  const [requests, setRequests] = useState(shown?.requests_per_minute?.toString() ?? "");
  const [tokens, setTokens] = useState(shown?.tokens_per_minute?.toString() ?? "");
  const [models, setModels] = useState(shown?.allowed_models?.join(", ") ?? "");
  const [classifications, setClassifications] = useState<readonly string[]>(shown?.allowed_classifications ?? []);
  const [tags, setTags] = useState(Object.entries(shown?.tags ?? {}).map(([tag, value]) => `${tag}=${value}`).join("\n"));
  const [expires, setExpires] = useState(shown?.expires_at ? localTime(shown.expires_at) : "");
  const named = models.split(",").map((each) => each.trim()).filter(Boolean);
  const bindable = scopes.some((scope) => scope !== "complete");
  const body = {
    name,
    scopes: scopes as Scope[],
    scope_budget_id: bindable && scopeBudget !== "" ? scopeBudget : null,
    budget_id: budget || null,
    monthly_budget_usd: limit === "" ? null : (limit as Decimal),
    period,
    per_user_limit_usd: perUser === "" ? null : (perUser as Decimal),
    requests_per_minute: requests === "" ? null : Number(requests),
    tokens_per_minute: tokens === "" ? null : Number(tokens),
    allowed_models: named.length > 0 ? named : null,
    allowed_classifications: classifications.length > 0 ? (classifications as Classification[]) : null,
    tags: parsedTags(tags),
    // As it was, where it wasn't changed: the field holds no seconds.
    expires_at: expires === "" ? null : shown?.expires_at && localTime(shown.expires_at) === expires ? shown.expires_at : new Date(expires).toISOString(),
  };
  const save = useMutation({
    mutationFn: async () => {
      if (shown) return answered(api.PATCH("/api/v1/admin/keys/{id}", { params: { path: { id: shown.id } }, body: changed(body, shown) }));
      const made = await answered(api.POST("/api/v1/admin/keys", { body }));
      onMade?.(made);
      return made;
    },
    onSuccess: (saved) => done(t.keys.saved(saved.name)),
  });
  const places = (nodes.data ?? []).map((node) => ({ value: node.id, label: node.name }));
  const company = me.scope_budget ? [] : [{ value: "", label: t.budget.company }];
  return (
    <FormDialog
      title={shown ? t.keys.change(shown.name) : t.keys.make}
      action={shown ? t.actions.save : t.keys.make}
      busy={save.isPending}
      error={save.error}
      ready={scopes.length > 0}
      onSubmit={() => save.mutate()}
      onClose={onClose}
    >
      <TextField label={t.keys.name} value={name} onChange={setName} required maxLength={200} />
      <Checks label={t.keys.scopes} chosen={scopes} onChange={setScopes} options={SCOPES.map((value) => ({ value, label: t.keys.scopeNames[value] }))} />
      {bindable && <SelectField label={t.keys.boundTo} value={scopeBudget} onChange={setScopeBudget} options={[...company, ...places]} />}
      <SelectField label={t.keys.under} value={budget} onChange={setBudget} options={[...company, ...places]} />
      <div className="pair">
        <AmountField label={t.budgets.limit} value={limit} onChange={setLimit} placeholder={t.budget.noLimit} />
        <SelectField
          label={t.budgets.period}
          value={period}
          onChange={(value) => setPeriod(value as Key["period"])}
          options={(["month", "week", "day", "none"] as const).map((value) => ({ value, label: t.periods[value] }))}
        />
      </div>
      <AmountField label={t.keys.perUser} value={perUser} onChange={setPerUser} placeholder={t.budget.noLimit} help={t.keys.perUserHelp} />
      <div className="pair">
        <TextField type="number" label={t.keys.requests} value={requests} onChange={setRequests} placeholder={t.budget.noLimit} />
        <TextField type="number" label={t.keys.tokens} value={tokens} onChange={setTokens} placeholder={t.budget.noLimit} />
      </div>
      <TextField label={t.keys.models} value={models} onChange={setModels} help={t.budgets.modelsHelp} />
      <Checks label={t.keys.classifications} chosen={classifications} onChange={setClassifications} options={CLASSIFICATIONS.map((value) => ({ value, label: value }))} />
      <TextField type="datetime-local" label={t.keys.expires} value={expires} onChange={setExpires} />
      <TextArea label={t.keys.tags} value={tags} onChange={setTags} rows={2} help={t.keys.tagsHelp} />
    </FormDialog>
  );
}

function parsedTags(text: string): Record<string, string> {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.indexOf("=");
      return at < 0 ? [line.trim(), ""] : [line.slice(0, at).trim(), line.slice(at + 1).trim()];
    }),
  );
}

/** As a field of local time has it. */
function localTime(iso: string): string {
  const at = new Date(iso);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** A secret, this once. */
export function Secret({ made, onClose }: { made: Schema["KeyWithSecret"]; onClose: () => void }) {
  const t = useText();
  return (
    <Dialog title={t.keys.secretTitle(made.name)} onClose={onClose}>
      <div className="dialog-body">
        <p className="note warn">{t.keys.secretOnce}</p>
        <div className="secret">
          <code>{made.key}</code>
          <Copy text={made.key} />
        </div>
      </div>
      <div className="dialog-actions">
        <button type="button" className="button primary" onClick={onClose}>
          {t.keys.secretKept}
        </button>
      </div>
    </Dialog>
  );
}

export function RotateForm({ shown, onClose, onMade }: { shown: Key; onClose: () => void; onMade: (made: Schema["KeyWithSecret"]) => void }) {
  const t = useText();
  const { api } = useSession();
  const done = useDone(onClose);
  const [overlap, setOverlap] = useState("86400");
  const rotate = useMutation({
    mutationFn: () => answered(api.POST("/api/v1/admin/keys/{id}/rotate", { params: { path: { id: shown.id } }, body: { overlap_seconds: Number(overlap) } })),
    onSuccess: (made) => {
      onMade(made);
      done(t.keys.rotated(made.name));
    },
  });
  return (
    <FormDialog title={t.keys.rotateTitle(shown.name)} action={t.keys.rotate} busy={rotate.isPending} error={rotate.error} onSubmit={() => rotate.mutate()} onClose={onClose}>
      <p>{t.keys.rotateWhat}</p>
      <SelectField
        label={t.keys.overlap}
        value={overlap}
        onChange={setOverlap}
        options={[0, 3600, 86_400, 604_800, 2_592_000].map((seconds, index) => ({ value: String(seconds), label: t.keys.overlaps[index] ?? "" }))}
      />
    </FormDialog>
  );
}

export function RevokeForm({ shown, onClose }: { shown: Key; onClose: () => void }) {
  const t = useText();
  const { api } = useSession();
  const done = useDone(onClose);
  const revoke = useMutation({
    mutationFn: () => answered(api.DELETE("/api/v1/admin/keys/{id}", { params: { path: { id: shown.id } } })),
    onSuccess: (gone) => done(t.keys.revokedDone(gone.name)),
  });
  return (
    <FormDialog title={t.keys.revokeTitle(shown.name)} action={t.keys.revoke} dangerous busy={revoke.isPending} error={revoke.error} onSubmit={() => revoke.mutate()} onClose={onClose}>
      <p>{t.keys.revokeWhat}</p>
    </FormDialog>
  );
}
