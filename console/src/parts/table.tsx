import {
  createSortedRowModel,
  rowSortingFeature,
  tableFeatures,
  useTable,
  type ColumnDef,
  type SortFn,
} from "@tanstack/react-table";
import { useMemo, type ReactNode } from "react";
import { compareDecimals, type Decimal } from "../api/exact";

const features = tableFeatures({ rowSortingFeature, sortedRowModel: createSortedRowModel() });
type Features = typeof features;

export interface Column<Row> {
  id: string;
  header: string;
  cell: (row: Row) => ReactNode;
  /** What the rows are sorted by; none: they can't be by this column. */
  sortBy?: (row: Row) => Sortable;
  /** Numbers are aligned at their right. */
  numeric?: boolean;
  /** What is said to no screen wider than a telephone's is left out there. */
  minor?: boolean;
}

type Sortable = string | number | { decimal: Decimal | null } | null;

function compare(one: Sortable, other: Sortable): number {
  if (typeof one === "number" && typeof other === "number") return one - other;
  if (typeof one === "string" && typeof other === "string") return one.localeCompare(other);
  if (isDecimal(one) && isDecimal(other)) {
    if (one.decimal !== null && other.decimal !== null) return compareDecimals(one.decimal, other.decimal);
    return Number(one.decimal !== null) - Number(other.decimal !== null);
  }
  return Number(one !== null) - Number(other !== null);
}

function isDecimal(value: Sortable): value is { decimal: Decimal | null } {
  return typeof value === "object" && value !== null;
}

interface TableProps<Row extends object> {
  caption: string;
  columns: Column<Row>[];
  rows: Row[];
  rowKey: (row: Row) => string;
  /** Whether the columns' headers sort; a tree's rows have an order of their own. */
  sortable?: boolean;
}

/** A table; on a telephone each row is a block with its columns' names in it, and the headers that sort are above. */
export function DataTable<Row extends object>({ caption, columns, rows, rowKey, sortable = true }: TableProps<Row>) {
  const definitions = useMemo(
    () =>
      columns.map((column): ColumnDef<Features, Row> => {
        const sortFn: SortFn<Features, Row> = (one, other, id) => compare(one.getValue<Sortable>(id), other.getValue<Sortable>(id));
        return {
          id: column.id,
          header: column.header,
          accessorFn: column.sortBy ?? (() => null),
          enableSorting: sortable && column.sortBy !== undefined,
          sortFn,
          sortDescFirst: column.numeric ?? false,
        };
      }),
    [columns, sortable],
  );
  const table = useTable({ features, columns: definitions, data: rows, getRowId: rowKey });
  const byId = new Map(columns.map((column) => [column.id, column]));
  const classes = (id: string) => [byId.get(id)?.numeric && "numeric", byId.get(id)?.minor && "minor"].filter(Boolean).join(" ");
  return (
    <div className="table-scroll" tabIndex={0} role="region" aria-label={caption}>
      <table role="table">
        <caption className="visually-hidden">{caption}</caption>
        <thead role="rowgroup">
          {table.getHeaderGroups().map((group) => (
            <tr key={group.id} role="row">
              {group.headers.map(({ column }) => {
                const sorted = column.getIsSorted();
                return (
                  <th
                    key={column.id}
                    scope="col"
                    role="columnheader"
                    className={classes(column.id)}
                    aria-sort={sorted === "asc" ? "ascending" : sorted === "desc" ? "descending" : undefined}
                  >
                    {column.getCanSort() ? (
                      <button type="button" className="sort" onClick={column.getToggleSortingHandler()}>
                        {byId.get(column.id)?.header}
                        <span aria-hidden="true">{sorted === "asc" ? " ↑" : sorted === "desc" ? " ↓" : ""}</span>
                      </button>
                    ) : (
                      byId.get(column.id)?.header
                    )}
                  </th>
                );
              })}
            </tr>
          ))}
        </thead>
        <tbody role="rowgroup">
          {table.getRowModel().rows.map((row) => (
            <tr key={row.id} role="row">
              {columns.map((column) => (
                <td key={column.id} role="cell" className={classes(column.id)} data-label={column.header}>
                  <div className="cell">{column.cell(row.original)}</div>
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
