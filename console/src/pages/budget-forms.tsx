/** What changes budgets. Every amount goes to the API as it was typed. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Schema } from "../api/client";
import type { Decimal } from "../api/exact";
import { percentOf, shareOf } from "../format/shares";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { FormDialog } from "../parts/dialog";
import { AmountField, PercentField, SelectField, TextArea, TextField } from "../parts/fields";
import { useToast } from "../parts/toasts";
import { answered, useSession } from "../session";
import type { Node } from "./budgets";

/** What is shown of budgets and keys is asked for anew after a change. */
export function useDone(onClose: () => void): (message: string) => void {
  const client = useQueryClient();
  const toast = useToast();
  return (message) => {
    void client.invalidateQueries();
    toast(message);
    onClose();
  };
}

interface BudgetFormProps {
  nodes: readonly Node[];
  /** Its thresholds are those of nodes without their own; null where the caller may not see it. */
  company: Schema["BudgetResponse"] | null;
  /** The one to change; none: a new one. */
  node?: Node;
  above: string | null;
  onClose: () => void;
}

export function BudgetForm({ nodes, company, node, above, onClose }: BudgetFormProps) {
  const t = useText();
  const { api, me } = useSession();
  const done = useDone(onClose);
  const [name, setName] = useState(node?.name ?? "");
  const [parent, setParent] = useState(above ?? me.scope_budget?.id ?? "");
  const [limit, setLimit] = useState<string>(node?.limit_usd ?? "");
  const [period, setPeriod] = useState(node?.period ?? "month");
  const [alert, setAlert] = useState(shownShare(node?.alert_threshold));
  const [open, setOpen] = useState(shownShare(node?.open_threshold));
  const [models, setModels] = useState(node?.models?.join(", ") ?? "");
  const names = models.split(",").map((each) => each.trim()).filter(Boolean);
  const body = {
    name,
    parent_id: parent || null,
    limit_usd: limit === "" ? null : (limit as Decimal),
    period,
    alert_threshold: alert === "" ? null : shareOf(alert),
    open_threshold: open === "" ? null : shareOf(open),
    models: names.length > 0 ? names : null,
  };
  const save = useMutation({
    mutationFn: () =>
      node
        ? answered(api.PATCH("/api/v1/admin/budgets/{id}", { params: { path: { id: node.id } }, body: changed(body, node) }))
        : answered(api.POST("/api/v1/admin/budgets", { body })),
    onSuccess: (saved) => done(t.budgets.saved(saved.name)),
  });
  const beneath = node ? descendants(nodes, node.id) : new Set<string>();
  const parents = nodes.filter((each) => !beneath.has(each.id)).map((each) => ({ value: each.id, label: each.name }));
  return (
    <FormDialog
      title={node ? t.budgets.change(node.name) : t.budgets.make}
      action={t.actions.save}
      busy={save.isPending}
      error={save.error}
      onSubmit={() => save.mutate()}
      onClose={onClose}
    >
      <TextField label={t.budgets.name} value={name} onChange={setName} required maxLength={200} />
      <SelectField
        label={t.budgets.above}
        value={parent}
        onChange={setParent}
        options={me.scope_budget ? parents : [{ value: "", label: t.budget.company }, ...parents]}
      />
      <div className="pair">
        <AmountField label={t.budgets.limit} value={limit} onChange={setLimit} placeholder={t.budget.noLimit} />
        <SelectField
          label={t.budgets.period}
          value={period}
          onChange={(value) => setPeriod(value as Node["period"])}
          options={(["month", "week", "day", "none"] as const).map((value) => ({ value, label: t.periods[value] }))}
        />
      </div>
      <div className="pair">
        <PercentField label={t.budgets.alert} value={alert} onChange={setAlert} placeholder={shownShare(company?.alert_threshold)} />
        <PercentField label={t.budgets.open} value={open} onChange={setOpen} placeholder={shownShare(company?.open_threshold)} />
      </div>
      <p className="muted small">{t.budgets.thresholdsHelp}</p>
      <TextField label={t.budgets.models} value={models} onChange={setModels} help={t.budgets.modelsHelp} />
    </FormDialog>
  );
}

const shownShare = (share: Decimal | null | undefined) => (share == null ? "" : percentOf(share));

/** What differs: PATCH changes what it names. */
export function changed<T extends object>(body: T, before: Partial<Record<keyof T, unknown>>): T {
  return Object.fromEntries(
    Object.entries(body).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name as keyof T])),
  ) as T;
}

function descendants(nodes: readonly Node[], id: string): Set<string> {
  const found = new Set([id]);
  // One that was made above another comes before it, but a move may have changed that.
  for (let size = 0; size !== found.size; ) {
    size = found.size;
    for (const node of nodes) if (node.parent_id !== null && found.has(node.parent_id)) found.add(node.id);
  }
  return found;
}

export function LimitForm({ budget, onClose }: { budget: Schema["BudgetResponse"]; onClose: () => void }) {
  const t = useText();
  const format = useFormat();
  const { api } = useSession();
  const done = useDone(onClose);
  const [amount, setAmount] = useState<string>(budget.monthly_limit_usd);
  const [until, setUntil] = useState("");
  const [reason, setReason] = useState("");
  const save = useMutation({
    mutationFn: () =>
      answered(
        api.PATCH("/api/v1/admin/budget", {
          body: { monthly_limit_usd: amount === "" ? null : (amount as Decimal), until: amount !== "" && until === "window" ? "window" : null, reason },
        }),
      ),
    onSuccess: (saved) => done(t.budgets.limitSaved(format.usd(saved.monthly_limit_usd))),
  });
  return (
    <FormDialog
      title={t.budgets.change(t.budget.company)}
      action={t.actions.save}
      busy={save.isPending}
      error={save.error}
      ready={reason.trim() !== ""}
      onSubmit={() => save.mutate()}
      onClose={onClose}
    >
      <AmountField label={t.budgets.limit} value={amount} onChange={setAmount} help={t.budgets.limitHelp(format.usd(budget.limit.setting_usd))} />
      <SelectField
        label={t.budgets.until}
        value={until}
        onChange={setUntil}
        options={[
          { value: "", label: t.budgets.forGood },
          { value: "window", label: t.budgets.untilReset },
        ]}
      />
      <TextArea label={t.budgets.reason} value={reason} onChange={setReason} required help={t.budgets.reasonHelp} />
    </FormDialog>
  );
}

export function RemoveForm({ node, onClose }: { node: Node; onClose: () => void }) {
  const t = useText();
  const { api } = useSession();
  const done = useDone(onClose);
  const remove = useMutation({
    mutationFn: () => answered(api.DELETE("/api/v1/admin/budgets/{id}", { params: { path: { id: node.id } } })),
    onSuccess: () => done(t.budgets.removed(node.name)),
  });
  return (
    <FormDialog
      title={t.budgets.removeTitle(node.name)}
      action={t.actions.remove}
      dangerous
      busy={remove.isPending}
      error={remove.error}
      onSubmit={() => remove.mutate()}
      onClose={onClose}
    >
      <p>{t.budgets.removeWhat}</p>
    </FormDialog>
  );
}
