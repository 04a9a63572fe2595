import { useQuery } from "@tanstack/react-query";
import type { Schema } from "../api/client";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { Answered, Empty } from "../parts/states";
import { DataTable, type Column } from "../parts/table";
import { answered, useSession } from "../session";
import { Head } from "../shell";

export type Listed = Schema["ModelList"]["data"][number];

export function useModels() {
  const { api } = useSession();
  return useQuery({ queryKey: ["models"], queryFn: ({ signal }) => answered(api.GET("/api/v1/models", { signal })), staleTime: 60_000 });
}

export default function Models() {
  const t = useText();
  const format = useFormat();
  const models = useModels();
  const price = (row: Listed, name: string) => (row.kind === "tier" || row.kind === "alias" ? undefined : row.price?.[name]);
  const amount = (row: Listed, name: string) => {
    const found = price(row, name);
    if (row.kind === "tier" || row.kind === "alias") return "";
    return found === undefined ? <span className="muted">{t.models.noPrice}</span> : format.usd(found);
  };
  const columns: Column<Listed>[] = [
    { id: "id", header: t.models.id, sortBy: (row) => row.id, cell: (row) => <b>{row.id}</b> },
    { id: "kind", header: t.models.kind, sortBy: (row) => row.kind, cell: (row) => <span className="badge plain">{row.kind}</span> },
    {
      id: "serves",
      header: t.models.servedBy,
      minor: true,
      cell: (row) => (row.kind === "tier" ? row.served_by.join(", ") : row.kind === "alias" ? row.stands_for : row.owned_by),
    },
    { id: "input", header: t.models.input, numeric: true, sortBy: (row) => ({ decimal: price(row, "input_mtok") ?? null }), cell: (row) => amount(row, "input_mtok") },
    { id: "output", header: t.models.output, numeric: true, sortBy: (row) => ({ decimal: price(row, "output_mtok") ?? null }), cell: (row) => amount(row, "output_mtok") },
  ];
  return (
    <>
      <Head title={t.pages.models} />
      <Answered query={models}>
        {({ data }) =>
          data.length === 0 ? (
            <Empty>{t.models.none}</Empty>
          ) : (
            <section className="card flush">
              <DataTable caption={t.pages.models} columns={columns} rows={data} rowKey={(row) => row.id} />
            </section>
          )
        }
      </Answered>
      <p className="muted small">{t.models.unit}</p>
    </>
  );
}
