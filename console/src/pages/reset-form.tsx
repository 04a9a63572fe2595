/** Ends the open window of a budget: the company's, a node's or a key's. */
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import type { Schema } from "../api/client";
import type { Decimal } from "../api/exact";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { FormDialog } from "../parts/dialog";
import { TextArea } from "../parts/fields";
import { useDone } from "./budget-forms";

interface ResetFormProps {
  name: string;
  standing: { current_spend_usd: Decimal; reserved_usd: Decimal };
  reset: (reason: string) => Promise<Schema["ResetResponse"]>;
  onClose: () => void;
}

export function ResetForm({ name, standing, reset, onClose }: ResetFormProps) {
  const t = useText();
  const format = useFormat();
  const done = useDone(onClose);
  const [reason, setReason] = useState("");
  const ending = useMutation({
    mutationFn: () => reset(reason),
    onSuccess: ({ closed }) => done(t.budgets.resetDone(name, format.usd(closed.spent_usd))),
  });
  return (
    <FormDialog
      title={t.budgets.resetTitle(name)}
      action={t.actions.reset}
      dangerous
      busy={ending.isPending}
      error={ending.error}
      ready={reason.trim() !== ""}
      onSubmit={() => ending.mutate()}
      onClose={onClose}
    >
      <p>{t.budgets.resetWhat(format.usd(standing.current_spend_usd), format.usd(standing.reserved_usd))}</p>
      <TextArea label={t.budgets.reason} value={reason} onChange={setReason} required help={t.budgets.reasonHelp} />
    </FormDialog>
  );
}
