/** Who is signed in: the key, in this tab's session storage alone, and what the API says of it. */
import { QueryCache, QueryClient, MutationCache, QueryClientProvider, useQuery } from "@tanstack/react-query";
import { createContext, useCallback, useContext, useMemo, useState, type ReactNode } from "react";
import { apiWith, type Api, type Schema } from "./api/client";
import { ApiError } from "./api/errors";
import { SignIn } from "./pages/sign-in";
import { Loading } from "./parts/states";

const STORED = "fusewire.key";

export type Me = Schema["MeResponse"];

/** What the key may do; the API has the last word. */
export interface Permissions {
  /** Calls of models. */
  complete: boolean;
  /** Sees the part of the tree that the key is bound to, or all. */
  read: boolean;
  /** Changes it. */
  admin: boolean;
  /** Sees the company's budget and providers. */
  readsCompany: boolean;
  administersCompany: boolean;
}

export interface Session {
  api: Api;
  key: string | null;
  me: Me;
  may: Permissions;
  signOut: () => void;
}

const SessionContext = createContext<Session | null>(null);

/** @throws Error outside of `SessionProvider` */
export function useSession(): Session {
  const session = useContext(SessionContext);
  if (session === null) throw new Error("There is no session here.");
  return session;
}

export function permissionsOf(me: Me): Permissions {
  const admin = me.scopes.includes("admin");
  const read = admin || me.scopes.includes("read");
  const whole = me.scope_budget === null;
  return {
    complete: me.scopes.includes("complete"),
    read,
    admin,
    readsCompany: read && whole,
    administersCompany: admin && whole,
  };
}

/** Why nobody is signed in. */
export type SignedOut = "new" | "left" | "ended";

export function SessionProvider({ children }: { children: ReactNode }) {
  const [key, setKey] = useState<string | null>(() => sessionStorage.getItem(STORED));
  const [out, setOut] = useState<SignedOut | null>(null);

  const leave = useCallback((why: SignedOut) => {
    sessionStorage.removeItem(STORED);
    setKey(null);
    setOut(why);
  }, []);
  const enter = useCallback((entered: string) => {
    sessionStorage.setItem(STORED, entered);
    setKey(entered);
    setOut(null);
  }, []);

  if (out !== null) return <SignIn why={out} onKey={enter} />;
  return (
    <SignedIn key={key} secret={key} onLeave={leave}>
      {children}
    </SignedIn>
  );
}

interface SignedInProps {
  secret: string | null;
  onLeave: (why: SignedOut) => void;
  children: ReactNode;
}

function SignedIn({ secret, onLeave, children }: SignedInProps) {
  const client = useMemo(() => clientWith(() => onLeave(secret === null ? "new" : "ended")), [secret, onLeave]);
  return (
    <QueryClientProvider client={client}>
      <Known secret={secret} onLeave={onLeave}>
        {children}
      </Known>
    </QueryClientProvider>
  );
}

/** @param onRefused a key that was good until now isn't any more */
function clientWith(onRefused: () => void): QueryClient {
  const onError = (error: Error) => {
    if (error instanceof ApiError && error.status === 401) onRefused();
  };
  return new QueryClient({
    queryCache: new QueryCache({ onError }),
    mutationCache: new MutationCache({ onError }),
    defaultOptions: {
      queries: {
        retry: (count, error) => count < 1 && error instanceof ApiError && error.status >= 500,
        networkMode: "always",
        staleTime: 5_000,
      },
      mutations: { networkMode: "always" },
    },
  });
}

function Known({ secret, onLeave, children }: SignedInProps) {
  const api = useMemo(() => apiWith(secret), [secret]);
  const { data: me, error, refetch } = useQuery({
    queryKey: ["me"],
    queryFn: async ({ signal }) => answered(api.GET("/api/v1/me", { signal })),
  });
  const session = useMemo<Session | null>(
    () => (me ? { api, key: secret, me, may: permissionsOf(me), signOut: () => onLeave("left") } : null),
    [api, me, onLeave, secret],
  );
  if (session !== null) return <SessionContext value={session}>{children}</SessionContext>;
  if (error) return <SignIn why="new" failure={error} onKey={() => void refetch()} onRetry={() => void refetch()} />;
  return <Loading whole />;
}

/** The body of an answer; an error has been thrown before. */
export async function answered<T>(call: Promise<{ data?: T }>): Promise<T> {
  return (await call).data as T;
}
