/** What is around every page. */
import { useQueryClient, type Query } from "@tanstack/react-query";
import { useCallback, useEffect, useRef, useState, useSyncExternalStore, type ReactNode } from "react";
import { Link, useLocation } from "wouter";
import { useText, type Text } from "./i18n/text";
import { Stale } from "./parts/states";
import { THEMES, usePreferences, type Language, type Theme } from "./preferences";
import { useSession } from "./session";

export function Logo() {
  return (
    <span className="logo">
      <img src="./icon.svg" alt="" width="26" height="26" />
      fusewire
    </span>
  );
}

export function Preferences() {
  const t = useText();
  const { language, setLanguage, theme, setTheme } = usePreferences();
  return (
    <div className="preferences">
      <label>
        <span className="visually-hidden">{t.shell.language}</span>
        <select value={language} onChange={(event) => setLanguage(event.target.value as Language)}>
          <option value="en" lang="en">
            English
          </option>
          <option value="ja" lang="ja">
            日本語
          </option>
        </select>
      </label>
      <label>
        <span className="visually-hidden">{t.shell.theme}</span>
        <select value={theme} onChange={(event) => setTheme(event.target.value as Theme)}>
          {THEMES.map((each) => (
            <option key={each} value={each}>
              {t.shell.themes[each]}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}

interface ShellProps {
  pages: { path: string; name: keyof Text["pages"] }[];
  children: ReactNode;
}

export function Shell({ pages, children }: ShellProps) {
  const t = useText();
  const { key, me, signOut } = useSession();
  const [location] = useLocation();
  const [open, setOpen] = useState(false);
  const main = useRef<HTMLElement>(null);
  const before = useRef(location);
  const current = pages.find(({ path }) => location === path || location.startsWith(`${path}/`));

  useEffect(() => {
    setOpen(false);
    document.title = current ? `${t.pages[current.name]} – fusewire` : "fusewire";
    if (before.current === location) return;
    before.current = location;
    main.current?.focus(); // so that a screen reader reads the new page, and not what was clicked
    window.scrollTo(0, 0);
  }, [location, current, t]);

  return (
    <div className="shell">
      <a className="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        {t.shell.skip}
      </a>
      <header className="side">
        <div className="side-head">
          <Logo />
          <button type="button" className="button quiet menu" aria-expanded={open} aria-controls="navigation" onClick={() => setOpen(!open)}>
            {t.shell.menu}
          </button>
        </div>
        <div id="navigation" className={open ? "side-body open" : "side-body"}>
          <nav aria-label={t.shell.navigation}>
            <ul>
              {pages.map(({ path, name }) => (
                <li key={path}>
                  <Link href={path} aria-current={current?.path === path ? "page" : undefined}>
                    {t.pages[name]}
                  </Link>
                </li>
              ))}
            </ul>
          </nav>
          <div className="side-foot">
            <p className="who small">
              <span className="muted">{t.shell.signedIn}</span>
              <b>{me.name ?? me.id ?? t.shell.nobody}</b>
              {me.scope_budget && <span className="muted">{me.scope_budget.name}</span>}
            </p>
            <Preferences />
            {key !== null && (
              <button type="button" className="button wide" onClick={signOut}>
                {t.shell.signOut}
              </button>
            )}
          </div>
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        <OldFigures />
        {children}
      </main>
    </div>
  );
}

/** Says that figures on this page couldn't be refreshed, and of when the oldest of them are. */
function OldFigures() {
  const cache = useQueryClient().getQueryCache();
  const subscribe = useCallback((onChange: () => void) => cache.subscribe(onChange), [cache]);
  const oldest = useSyncExternalStore(subscribe, () =>
    cache.findAll({ type: "active", predicate: isOld }).reduce<Query | null>((one, other) => (one && one.state.dataUpdatedAt <= other.state.dataUpdatedAt ? one : other), null),
  );
  return oldest?.state.error ? <Stale error={oldest.state.error} since={oldest.state.dataUpdatedAt} /> : null;
}

function isOld(query: Query): boolean {
  return query.state.error !== null && query.state.data !== undefined;
}

interface HeadProps {
  title: string;
  children?: ReactNode;
}

/** A page's title, and what can be done on it. */
export function Head({ title, children }: HeadProps) {
  return (
    <div className="head">
      <h1>{title}</h1>
      {children && <div className="head-actions">{children}</div>}
    </div>
  );
}
