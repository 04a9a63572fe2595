/** Keys by their names, where the API has their ids. */
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { answered, useSession } from "../session";

const FRESH_MILLISECONDS = 5 * 60_000;
const MOST = 1000;

/** One key, as a link; its id until its name is there. */
export function KeyName({ id }: { id: string }) {
  const { api } = useSession();
  const key = useQuery({
    queryKey: ["keys", id],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/keys/{id}", { signal, params: { path: { id } } })),
    enabled: id.startsWith("key_"),
    staleTime: FRESH_MILLISECONDS,
  });
  return id.startsWith("key_") ? <a href={`#/keys/${id}`}>{key.data?.name ?? id}</a> : id || "–";
}

/** The names of the newest keys, for a report that has many: one request, and ids for the others. */
export function useKeyNames(enabled: boolean): ReadonlyMap<string, string> {
  const { api } = useSession();
  const keys = useQuery({
    queryKey: ["keys", "names"],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/keys", { signal, params: { query: { limit: MOST } } })),
    enabled,
    staleTime: FRESH_MILLISECONDS,
  });
  return useMemo(() => new Map(keys.data?.rows.map((key) => [key.id, key.name])), [keys.data]);
}
