import { useQuery } from "@tanstack/react-query";
import { answered, useSession } from "../session";

/** A budget's name by its id, which is shown until the name is there. */
export function NodeName({ id }: { id: string }) {
  const { api } = useSession();
  const node = useQuery({
    queryKey: ["budgets", id],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/budgets/{id}", { signal, params: { path: { id } } })),
  });
  return node.data?.name ?? id;
}
