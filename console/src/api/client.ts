/** The API, typed by its own OpenAPI document. Every call sends the key as a header; there are no cookies. */
import createClient, { type Middleware } from "openapi-fetch";
import { errorOf, SlowError, UnreachableError } from "./errors";
import { parseExact } from "./exact";
import type { components, paths } from "./schema";

export type Schema = components["schemas"];

/** Where the API is, with its path or without; by default where this page is. */
export const API_ORIGIN: string = (import.meta.env.NEXT_PUBLIC_API_URL || window.location.origin).replace(/(\/api)?(\/v1)?\/*$/, "");

/** After which a request is given up. */
export const GIVE_UP_SECONDS = 30;

/**
 * Fetch, and read the answer.
 *
 * @throws SlowError when the request was given up by `givingUp`
 * @throws UnreachableError when there is no answer that this page may read
 */
export async function reach<T>(request: Request, read: (response: Response) => Promise<T>): Promise<T> {
  try {
    return await read(await fetch(request));
  } catch (error) {
    if (request.signal.reason instanceof SlowError) throw request.signal.reason;
    if (request.signal.aborted) throw error; // nobody waits for it any more
    throw new UnreachableError(await answersOthers(), API_ORIGIN);
  }
}

/** Do something with a signal that gives it up in time. */
async function givingUp<T>(request: Request, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new SlowError(GIVE_UP_SECONDS, request.method !== "GET")), GIVE_UP_SECONDS * 1000);
  try {
    return await work(AbortSignal.any([request.signal, late.signal]));
  } finally {
    clearTimeout(timer);
  }
}

/** Whether the gateway answers a request whose answer this page may not read. */
async function answersOthers(): Promise<boolean> {
  if (API_ORIGIN === window.location.origin) return false;
  try {
    await fetch(`${API_ORIGIN}/api/v1/health`, { mode: "no-cors", signal: AbortSignal.timeout(5_000) });
    return true;
  } catch {
    return false;
  }
}

const exact: Middleware = {
  async onResponse({ response }) {
    if (!response.ok) throw errorOf(response, await response.text());
    return undefined;
  },
};

export type Api = ReturnType<typeof apiWith>;

/** @param key sent with every call; null where the gateway asks for none */
export function apiWith(key: string | null) {
  const client = createClient<paths>({
    baseUrl: API_ORIGIN,
    fetch: async (request) => {
      const [response, body] = await givingUp(request, (signal) =>
        reach(new Request(request, { signal, credentials: "omit" }), async (response) => [response, await response.blob()]),
      );
      if (!response.ok || !response.headers.get("content-type")?.startsWith("application/json")) return new Response(body, response);
      // openapi-fetch reads JSON by `JSON.parse`, which makes doubles of amounts: so they are strings before.
      return new Response(JSON.stringify(parseExact(await body.text())), response);
    },
    headers: key === null ? {} : { authorization: `Bearer ${key}` },
    querySerializer: { array: { style: "form", explode: false } },
  });
  client.use(exact);
  return client;
}
