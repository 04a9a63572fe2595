/** The route and its query, both behind the `#`: a link with filters is one that can be copied, opened and gone back to. */
import { useSyncExternalStore } from "react";
import type { BaseLocationHook, BaseSearchHook } from "wouter";

function subscribe(onChange: () => void): () => void {
  window.addEventListener("hashchange", onChange);
  return () => window.removeEventListener("hashchange", onChange);
}

function part(place: 0 | 1): string {
  return window.location.hash.replace(/^#?\/?/, "").split("?")[place] ?? "";
}

function navigate(to: string, { replace = false }: { replace?: boolean } = {}): void {
  if (replace) window.location.replace(`#${to}`);
  else window.location.hash = to;
}

export const useHashLocation: BaseLocationHook & { hrefs: (href: string) => string } = Object.assign(
  (): [string, typeof navigate] => [useSyncExternalStore(subscribe, () => `/${part(0)}`), navigate],
  { hrefs: (href: string) => `#${href}` },
);

export const useHashSearch: BaseSearchHook = () => useSyncExternalStore(subscribe, () => part(1));
