/** The API, typed by its own OpenAPI document. Every call sends the key as a header; there are no cookies. */
import createClient, { type Middleware } from "openapi-fetch";
import { errorOf, UnreachableError } from "./errors";
import { parseExact } from "./exact";
import type { components, paths } from "./schema";

export type Schema = components["schemas"];

/** Where the API is, with its path or without; by default where this page is. */
export const API_ORIGIN: string = (import.meta.env.NEXT_PUBLIC_API_URL || window.location.origin).replace(/(\/api)?(\/v1)?\/*$/, "");

const SLOW_MILLISECONDS = 30_000;

/** A fetch that says which of the two it is when there is no answer. */
export async function reach(request: Request): Promise<Response> {
  try {
    return await fetch(request);
  } catch (error) {
    if (request.signal.aborted && !isTimeout(request.signal)) throw error; // nobody waits for it any more
    throw new UnreachableError(await answersOthers(), API_ORIGIN);
  }
}

function isTimeout(signal: AbortSignal): boolean {
  return signal.reason instanceof DOMException && signal.reason.name === "TimeoutError";
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
      const signal = AbortSignal.any([request.signal, AbortSignal.timeout(SLOW_MILLISECONDS)]);
      const response = await reach(new Request(request, { signal, credentials: "omit" }));
      if (!response.ok || !response.headers.get("content-type")?.startsWith("application/json")) return response;
      // openapi-fetch reads JSON by `JSON.parse`, which makes doubles of amounts: so they are strings before.
      return new Response(JSON.stringify(parseExact(await response.text())), response);
    },
    headers: key === null ? {} : { authorization: `Bearer ${key}` },
    querySerializer: { array: { style: "form", explode: false } },
  });
  client.use(exact);
  return client;
}
