import { useEffect, useState, type ReactNode } from "react";
import { GIVE_UP_SECONDS } from "../api/client";
import { ApiError, SlowError, UnreachableError } from "../api/errors";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";

const SLOW_MILLISECONDS = 5_000;

export function Loading({ whole = false }: { whole?: boolean }) {
  const t = useText();
  return (
    <div className={whole ? "loading whole" : "loading"} role="status">
      <span className="spinner" aria-hidden="true" />
      <Waiting before={t.states.loading} />
    </div>
  );
}

/** Says, after some seconds, that the answer is being waited for, and for how long it will be; `before` until then. */
export function Waiting({ before = null }: { before?: string | null }) {
  const t = useText();
  const [slow, setSlow] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setSlow(true), SLOW_MILLISECONDS);
    return () => clearTimeout(timer);
  }, []);
  return slow ? t.states.waiting(GIVE_UP_SECONDS) : before;
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
  if (error instanceof SlowError) return { title: t.slow(error.seconds), detail: error.changes ? t.slowChange : t.slowHelp };
  if (error instanceof ApiError) {
    const titles: Record<number, string> = { 403: t.forbidden, 404: t.notFound, 429: t.tooMany };
    return { title: titles[error.status] ?? (error.status >= 500 ? t.serverFailed : t.refused), detail: error.message };
  }
  return { title: t.broken, detail: error.message };
}

/** Above figures that are shown, though they couldn't be refreshed. */
export function Stale({ error, since }: { error: Error; since: number }) {
  const t = useText();
  const format = useFormat();
  const { title } = useWords(error);
  return (
    <p className="note warn" role="status">
      {title} {t.states.stale(format.precise(since))}
    </p>
  );
}

interface Answer<T> {
  data: T | undefined;
  error: Error | null;
  refetch: () => unknown;
}

/** Of a query what there is: its data, why there is none, or that it is on its way. `shell.tsx` says that data is old. */
export function Answered<T>({ query, children }: { query: Answer<T>; children: (data: T) => ReactNode }) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.error) return <Failure error={query.error} onRetry={() => void query.refetch()} />;
  return <Loading />;
}

interface Pages {
  hasNextPage: boolean;
  isFetchingNextPage: boolean;
  isFetchNextPageError: boolean;
  error: Error | null;
  fetchNextPage: () => unknown;
}

/** Below rows: asks for those that follow. */
export function More({ query }: { query: Pages }) {
  const t = useText();
  if (!query.hasNextPage) return null;
  return (
    <>
      {query.isFetchNextPageError && query.error && <Failure error={query.error} />}
      <p className="more" role="status">
        <button type="button" className="button" disabled={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
          {query.isFetchingNextPage ? t.states.loading : t.actions.more}
        </button>
        {query.isFetchingNextPage && (
          <span className="muted small">
            <Waiting />
          </span>
        )}
      </p>
    </>
  );
}
