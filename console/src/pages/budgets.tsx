import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import type { Schema } from "../api/client";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { Gauge, StateBadge } from "../parts/gauge";
import { Answered, Empty } from "../parts/states";
import { DataTable, type Column } from "../parts/table";
import { Usd } from "../parts/usd";
import { answered, useSession } from "../session";
import { Head } from "../shell";
import { BudgetForm, LimitForm, RemoveForm } from "./budget-forms";
import { ResetForm } from "./reset-form";

export type Node = Schema["NodeResponse"];

/** A row of the tree: a node, or the company's budget above them all. */
export type Row = { id: string; name: string; depth: number; children: number } & (
  | { node: Node; budget: null }
  | { node: null; budget: Schema["BudgetResponse"] }
);

type Form = { kind: "new"; above: Row | null } | { kind: "change" | "reset" | "remove"; row: Row };

/** Every node that the caller may see. */
export function useNodes() {
  const { api } = useSession();
  return useQuery({
    queryKey: ["budgets"],
    queryFn: async ({ signal }) => {
      const nodes: Node[] = [];
      for (let cursor: string | null | undefined; cursor !== null; ) {
        const page: Schema["NodePage"] = await answered(
          api.GET("/api/v1/admin/budgets", { signal, params: { query: { limit: 1000, ...(cursor ? { cursor } : {}) } } }),
        );
        nodes.push(...page.rows);
        cursor = page.next_cursor;
      }
      return nodes;
    },
  });
}

export default function Budgets() {
  const t = useText();
  const { api, may } = useSession();
  const [form, setForm] = useState<Form | null>(null);
  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set());
  const nodes = useNodes();
  const company = useQuery({
    queryKey: ["budget"],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/budget", { signal })),
    enabled: may.readsCompany,
  });
  const rows = useMemo(
    () => (nodes.data ? tree(nodes.data, company.data ?? null, t.budget.company, closed) : []),
    [nodes.data, company.data, t, closed],
  );
  const toggle = (id: string) => setClosed((before) => (before.has(id) ? without(before, id) : new Set(before).add(id)));

  return (
    <>
      <Head title={t.pages.budgets}>
        {may.readsCompany && (
          <a className="button" href="#/adjustments">
            {t.adjustments.title}
          </a>
        )}
        {may.admin && (
          <button type="button" className="button primary" onClick={() => setForm({ kind: "new", above: null })}>
            {t.budgets.make}
          </button>
        )}
      </Head>
      {may.readsCompany && company.error && !company.data && <Answered query={company}>{() => null}</Answered>}
      <Answered query={nodes}>
        {(all) => (
          <>
            <section className="card flush">
              <Tree rows={rows} company={company.data ?? null} closed={closed} onToggle={toggle} onForm={setForm} />
            </section>
            {all.length === 0 && <Empty>{t.budgets.none}</Empty>}
            {form?.kind === "new" && <BudgetForm nodes={all} company={company.data ?? null} above={form.above?.node?.id ?? null} onClose={() => setForm(null)} />}
            {form?.kind === "change" &&
              (form.row.node ? (
                <BudgetForm nodes={all} company={company.data ?? null} node={form.row.node} above={form.row.node.parent_id} onClose={() => setForm(null)} />
              ) : (
                <LimitForm budget={form.row.budget} onClose={() => setForm(null)} />
              ))}
            {form?.kind === "reset" && (
              <ResetForm
                name={form.row.name}
                standing={form.row.budget ?? form.row.node}
                reset={(reason) =>
                  form.row.node
                    ? answered(api.POST("/api/v1/admin/budgets/{id}/reset", { params: { path: { id: form.row.node.id } }, body: { reason } }))
                    : answered(api.POST("/api/v1/admin/budget/reset", { body: { reason } }))
                }
                onClose={() => setForm(null)}
              />
            )}
            {form?.kind === "remove" && form.row.node && <RemoveForm node={form.row.node} onClose={() => setForm(null)} />}
          </>
        )}
      </Answered>
    </>
  );
}

interface TreeProps {
  rows: Row[];
  /** Its thresholds are those of nodes without their own; null where the caller may not see it. */
  company: Schema["BudgetResponse"] | null;
  closed: ReadonlySet<string>;
  onToggle: (id: string) => void;
  onForm: (form: Form) => void;
}

function Tree({ rows, company, closed, onToggle, onForm }: TreeProps) {
  const t = useText();
  const format = useFormat();
  const { may, me } = useSession();
  // A bound key may change what is below its own node, and not that.
  const changes = (row: Row) => (row.node === null ? may.administersCompany : may.admin && row.id !== me.scope_budget?.id);
  const columns: Column<Row>[] = [
    {
      id: "name",
      header: t.budgets.name,
      cell: (row) => (
        <span className="tree-name" style={{ paddingInlineStart: `${row.depth * 1.25}rem` }}>
          {row.children > 0 ? (
            <button
              type="button"
              className="twist"
              aria-expanded={!closed.has(row.id)}
              aria-label={t.budgets.below(row.name)}
              onClick={() => onToggle(row.id)}
            >
              {closed.has(row.id) ? "▸" : "▾"}
            </button>
          ) : (
            <span className="twist" aria-hidden="true" />
          )}
          <b>{row.name}</b>
          {row.node?.models && <span className="muted small">{row.node.models.join(", ")}</span>}
        </span>
      ),
    },
    {
      id: "standing",
      header: t.budgets.standing,
      cell: (row) => {
        const limit = row.budget?.monthly_limit_usd ?? row.node?.limit_usd ?? null;
        const own = row.budget ?? row.node;
        return (
          <div className="standing">
            <Gauge
              label={row.name}
              spent={own.current_spend_usd}
              reserved={own.reserved_usd}
              limit={limit}
              state={own.state}
              marks={[own.alert_threshold ?? company?.alert_threshold, own.open_threshold ?? company?.open_threshold].filter((mark) => mark != null)}
            />
            <span className="small">
              <b>
                <Usd amount={own.current_spend_usd} />
              </b>{" "}
              <span className="muted">{limit === null ? t.budget.noLimit : t.budget.of(format.usd(limit))}</span>
            </span>
          </div>
        );
      },
    },
    { id: "reserved", header: t.budget.reserved, numeric: true, minor: true, cell: (row) => <Usd amount={(row.budget ?? row.node).reserved_usd} /> },
    { id: "period", header: t.budget.period, minor: true, cell: (row) => t.periods[row.node?.period ?? "month"] },
    { id: "state", header: t.budget.state, cell: (row) => <StateBadge state={(row.budget ?? row.node).state} /> },
    {
      id: "actions",
      header: t.actions.actions,
      cell: (row) => (
        <span className="row-actions">
          {may.admin && row.node && (
            <button type="button" className="button small" aria-label={`${t.budgets.makeBelow}: ${row.name}`} onClick={() => onForm({ kind: "new", above: row })}>
              +
            </button>
          )}
          {changes(row) && (
            <>
              <button type="button" className="button small" aria-label={`${t.actions.change}: ${row.name}`} onClick={() => onForm({ kind: "change", row })}>
                {t.actions.change}
              </button>
              <button type="button" className="button small" aria-label={`${t.actions.reset}: ${row.name}`} onClick={() => onForm({ kind: "reset", row })}>
                {t.actions.reset}
              </button>
              {row.node && (
                <button type="button" className="button small" aria-label={`${t.actions.remove}: ${row.name}`} onClick={() => onForm({ kind: "remove", row })}>
                  {t.actions.remove}
                </button>
              )}
            </>
          )}
        </span>
      ),
    },
  ];
  const shown = may.admin ? columns : columns.filter((column) => column.id !== "actions");
  return <DataTable caption={t.pages.budgets} columns={shown} rows={rows} rowKey={(row) => row.id} sortable={false} />;
}

/** The nodes below each other, with the company's budget above them where it may be seen. */
export function tree(nodes: readonly Node[], budget: Schema["BudgetResponse"] | null, company: string, closed: ReadonlySet<string>): Row[] {
  const known = new Set(nodes.map((node) => node.id));
  const below = Map.groupBy(nodes, (node) => (node.parent_id !== null && known.has(node.parent_id) ? node.parent_id : ""));
  const rows: Row[] = [];
  const add = (above: string, depth: number) => {
    for (const node of below.get(above) ?? []) {
      rows.push({ id: node.id, name: node.name, depth, children: below.get(node.id)?.length ?? 0, node, budget: null });
      if (!closed.has(node.id)) add(node.id, depth + 1);
    }
  };
  if (budget !== null) rows.push({ id: "global", name: company, depth: 0, children: below.get("")?.length ?? 0, node: null, budget });
  if (!closed.has("global")) add("", budget === null ? 0 : 1);
  return rows;
}

function without(set: ReadonlySet<string>, id: string): ReadonlySet<string> {
  return new Set([...set].filter((each) => each !== id));
}
