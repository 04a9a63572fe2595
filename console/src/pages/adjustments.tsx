/** What was booked by hand: what a restore lost, or what an invoice says beside the books. */
import { useInfiniteQuery, useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schema } from "../api/client";
import type { Decimal } from "../api/exact";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { FormDialog } from "../parts/dialog";
import { AmountField, TextArea, TextField } from "../parts/fields";
import { Answered, Empty, More } from "../parts/states";
import { DataTable, type Column } from "../parts/table";
import { answered, useSession } from "../session";
import { Head } from "../shell";
import { useDone } from "./budget-forms";

type Adjustment = Schema["AdjustmentResponse"];

const PAGE = 50;

export default function Adjustments() {
  const t = useText();
  const format = useFormat();
  const { api, may } = useSession();
  const [booking, setBooking] = useState(false);
  const adjustments = useInfiniteQuery({
    queryKey: ["adjustments"],
    initialPageParam: null as string | null,
    queryFn: ({ signal, pageParam }) =>
      answered(api.GET("/api/v1/admin/budget/adjustments", { signal, params: { query: { limit: PAGE, ...(pageParam !== null && { cursor: pageParam }) } } })),
    getNextPageParam: (page) => page.next_cursor,
  });
  const columns: Column<Adjustment>[] = [
    { id: "at", header: t.calls.at, cell: (row) => format.precise(row.at) },
    { id: "amount", header: t.adjustments.amount, numeric: true, cell: (row) => format.usd(row.amount_usd) },
    { id: "reason", header: t.budgets.reason, cell: (row) => row.reason },
    { id: "window", header: t.adjustments.window, numeric: true, minor: true, cell: (row) => String(row.window_id) },
    { id: "actor", header: t.audit.actor, minor: true, cell: (row) => row.actor },
  ];
  return (
    <>
      <p className="crumb">
        <a href="#/budgets">← {t.pages.budgets}</a>
      </p>
      <Head title={t.adjustments.title}>
        {may.administersCompany && (
          <button type="button" className="button primary" onClick={() => setBooking(true)}>
            {t.adjustments.book}
          </button>
        )}
      </Head>
      <p className="muted">{t.adjustments.what}</p>
      <Answered query={adjustments}>
        {({ pages }) => {
          const rows = pages.flatMap((page) => page.rows);
          if (rows.length === 0) return <Empty>{t.adjustments.none}</Empty>;
          return (
            <>
              <section className="card flush">
                <DataTable caption={t.adjustments.title} columns={columns} rows={rows} rowKey={(row) => row.id} sortable={false} />
              </section>
              <More query={adjustments} />
            </>
          );
        }}
      </Answered>
      {booking && <AdjustmentForm onClose={() => setBooking(false)} />}
    </>
  );
}

function AdjustmentForm({ onClose }: { onClose: () => void }) {
  const t = useText();
  const format = useFormat();
  const { api } = useSession();
  const done = useDone(onClose);
  const [amount, setAmount] = useState("");
  const [reason, setReason] = useState("");
  const [window, setWindow] = useState("");
  const budget = useQuery({
    queryKey: ["budget"],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/budget", { signal })),
  });
  const book = useMutation({
    mutationFn: () =>
      answered(api.POST("/api/v1/admin/budget/adjustments", { body: { amount_usd: amount as Decimal, reason, window_id: window === "" ? null : Number(window) } })),
    onSuccess: ({ adjustment, window: after }) => done(t.adjustments.booked(format.usd(adjustment.amount_usd), String(after.id), format.usd(after.spent_usd))),
  });
  const takesBack = amount.startsWith("-");
  return (
    <FormDialog
      title={t.adjustments.book}
      action={t.adjustments.book}
      dangerous
      busy={book.isPending}
      error={book.error}
      ready={amount !== "" && reason.trim() !== ""}
      onSubmit={() => book.mutate()}
      onClose={onClose}
    >
      <AmountField label={t.adjustments.amount} value={amount} onChange={setAmount} required help={t.adjustments.amountHelp} />
      <TextArea label={t.budgets.reason} value={reason} onChange={setReason} required help={t.budgets.reasonHelp} />
      <TextField
        type="number"
        label={t.adjustments.window}
        value={window}
        onChange={setWindow}
        {...(budget.data && { placeholder: String(budget.data.window.id) })}
        help={t.adjustments.windowHelp}
      />
      {/^-?[0-9]+(\.[0-9]+)?$/.test(amount) && (
        <p className="note warn">
          {(takesBack ? t.adjustments.takes : t.adjustments.adds)(format.usd(amount.replace("-", "") as Decimal), window)}{" "}
          {window === "" && budget.data && t.adjustments.now(format.usd(budget.data.current_spend_usd), format.usd(budget.data.monthly_limit_usd))}
        </p>
      )}
    </FormDialog>
  );
}
