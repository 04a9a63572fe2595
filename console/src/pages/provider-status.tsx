import type { Schema } from "../api/client";
import { useText } from "../i18n/text";

type Status = Schema["ProviderResponse"]["status"];

const KINDS: Record<Status, string> = { ok: "good", unknown: "plain", cooling_down: "warn", credential_rejected: "bad", unconfigured: "plain" };

export function ProviderStatus({ status }: { status: Status }) {
  const t = useText();
  return <span className={`badge ${KINDS[status]}`}>{t.providers.statuses[status]}</span>;
}
