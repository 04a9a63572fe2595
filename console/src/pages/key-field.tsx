/** A filter by a key: typed as a part of its name, chosen from those that the API finds, sent as its id. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useId } from "react";
import { useText } from "../i18n/text";
import { Field } from "../parts/fields";
import { answered, useSession } from "../session";
import { searched, useSettled } from "./keys";

const FOUND = 10;
const TYPING_MILLISECONDS = 250;

export function isKeyId(text: string): boolean {
  return /^(key_[0-9a-f]{32}|bootstrap)$/.test(text);
}

export function KeyField({ label, value, onChange }: { label: string; value: string; onChange: (value: string) => void }) {
  const t = useText();
  const { api } = useSession();
  const list = useId();
  const wanted = useSettled(searched(value), TYPING_MILLISECONDS);
  const found = useQuery({
    queryKey: ["keys", "found", wanted],
    queryFn: ({ signal }) => answered(api.GET("/api/v1/admin/keys", { signal, params: { query: { search: wanted, limit: FOUND } } })),
    enabled: wanted !== "",
    placeholderData: keepPreviousData,
  });
  const chosen = isKeyId(value) ? found.data?.rows.find((key) => key.id === value)?.name : undefined;
  return (
    <Field label={label} help={value === "" || isKeyId(value) ? chosen : t.keys.choose}>
      {(id, describedBy) => (
        <>
          <input id={id} list={list} value={value} autoComplete="off" placeholder={t.keys.choosing} onChange={(event) => onChange(event.target.value.trim())} aria-describedby={describedBy} />
          <datalist id={list}>
            {wanted !== "" &&
              found.data?.rows.map((key) => (
                <option key={key.id} value={key.id}>
                  {key.name}
                </option>
              ))}
          </datalist>
        </>
      )}
    </Field>
  );
}
