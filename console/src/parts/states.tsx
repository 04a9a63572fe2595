import type { ReactNode } from "react";
import { ApiError, UnreachableError } from "../api/errors";
import { useText } from "../i18n/text";

export function Loading({ whole = false }: { whole?: boolean }) {
  const t = useText();
  return (
    <div className={whole ? "loading whole" : "loading"} role="status">
      <span className="spinner" aria-hidden="true" />
      {t.states.loading}
    </div>
  );
}

export function Empty({ children }: { children: ReactNode }) {
  return <p className="empty">{children}</p>;
}

/** What went wrong, and what can be done about it. */
export function Failure({ error, onRetry }: { error: Error; onRetry?: () => void }) {
  const t = useText();
  const { title, detail } = useWords(error);
  return (
    <div className="failure" role="alert">
      <strong>{title}</strong>
      <p>{detail}</p>
      {error instanceof ApiError && error.requestId && (
        <p className="small muted">
          x-request-id: <code>{error.requestId}</code>
        </p>
      )}
      {onRetry && (
        <button type="button" className="button" onClick={onRetry}>
          {t.states.retry}
        </button>
      )}
    </div>
  );
}

function useWords(error: Error): { title: string; detail: string } {
  const t = useText().states;
  if (error instanceof UnreachableError)
    return error.refusesOrigin
      ? { title: t.refusesOrigin, detail: t.refusesOriginHelp(error.url, window.location.origin) }
      : { title: t.unreachable, detail: t.unreachableHelp(error.url) };
  if (error instanceof ApiError) {
    const titles: Record<number, string> = { 403: t.forbidden, 404: t.notFound, 429: t.tooMany };
    return { title: titles[error.status] ?? (error.status >= 500 ? t.serverFailed : t.refused), detail: error.message };
  }
  return { title: t.broken, detail: error.message };
}

/** Above figures that are shown, though they couldn't be refreshed. */
export function Stale({ error, since }: { error: Error; since: string }) {
  const t = useText();
  const { title } = useWords(error);
  return (
    <p className="note warn" role="status">
      {title} {t.states.stale(since)}
    </p>
  );
}

interface Answer<T> {
  data: T | undefined;
  error: Error | null;
  refetch: () => unknown;
}

/** Of a query what there is: its data, why there is none, or that it is on its way. */
export function Answered<T>({ query, children }: { query: Answer<T>; children: (data: T) => ReactNode }) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.error) return <Failure error={query.error} onRetry={() => void query.refetch()} />;
  return <Loading />;
}
