import { useState, type FormEvent } from "react";
import { apiWith } from "../api/client";
import { ApiError } from "../api/errors";
import { Logo, Preferences } from "../shell";
import { useText } from "../i18n/text";
import { Failure, Waiting } from "../parts/states";
import { answered, type SignedOut } from "../session";

interface Props {
  why: SignedOut;
  /** Why not even an attempt can be made. */
  failure?: Error;
  onKey: (key: string) => void;
  onRetry?: () => void;
}

export function SignIn({ why, failure, onKey, onRetry }: Props) {
  const t = useText();
  const [key, setKey] = useState("");
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);

  async function submit(event: FormEvent) {
    event.preventDefault();
    const entered = key.trim();
    if (!/^[\x21-\x7e]+$/.test(entered)) return setError(new ApiError(401, "invalid_api_key", "", null));
    setBusy(true);
    setError(null);
    try {
      await answered(apiWith(entered).GET("/api/v1/me"));
      onKey(entered);
    } catch (caught) {
      setError(caught as Error);
    } finally {
      setBusy(false);
    }
  }

  const unreachable = failure !== undefined && !(failure instanceof ApiError && failure.status === 401);
  return (
    <div className="sign-in">
      <header>
        <Preferences />
      </header>
      <main className="card">
        <Logo />
        {unreachable ? (
          <Failure error={failure} {...(onRetry && { onRetry })} />
        ) : (
          <form onSubmit={(event) => void submit(event)} noValidate>
            <h1>{t.signIn.title}</h1>
            {why === "ended" && (
              <p className="note warn" role="alert">
                {t.signIn.ended}
              </p>
            )}
            <label className="field">
              <span>{t.signIn.key}</span>
              <input
                type="password"
                name="key"
                autoComplete="off"
                spellCheck={false}
                placeholder="fw_…"
                value={key}
                onChange={(event) => setKey(event.target.value)}
                aria-invalid={error !== null}
                aria-describedby="sign-in-help"
                autoFocus
              />
            </label>
            <p id="sign-in-help" className="muted small">
              {t.signIn.help}
            </p>
            {error instanceof ApiError && error.status === 401 ? (
              <p className="note bad" role="alert">
                {t.signIn.wrong}
              </p>
            ) : (
              error && <Failure error={error} />
            )}
            <button className="button primary wide" disabled={busy || key.trim() === ""}>
              {busy ? t.signIn.busy : t.signIn.enter}
            </button>
            {busy && (
              <p className="muted small" role="status">
                <Waiting />
              </p>
            )}
          </form>
        )}
      </main>
    </div>
  );
}
