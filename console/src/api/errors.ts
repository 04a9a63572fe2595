/** What can go wrong between the console and the API, by what its user can do about it. */

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly requestId: string | null,
  ) {
    super(message);
  }
}

/** No answer that this page may read: the gateway is down, or it doesn't know this page's origin. */
export class UnreachableError extends Error {
  constructor(
    /** Whether something answers all the same, so that it is the origin. */
    readonly refusesOrigin: boolean,
    readonly url: string,
  ) {
    super("unreachable");
  }
}

/** No answer in time. */
export class SlowError extends Error {
  constructor(
    readonly seconds: number,
    /** Whether it asked for a change, which may have been made all the same. */
    readonly changes: boolean,
  ) {
    super("slow");
  }
}

interface ErrorBody {
  error?: { message?: unknown; code?: unknown; type?: unknown };
}

/** @param text the body, OpenAI's or Anthropic's error; whatever else it is, the status is told */
export function errorOf(response: Response, text: string): ApiError {
  let error: ErrorBody["error"];
  try {
    error = (JSON.parse(text) as ErrorBody | null)?.error;
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause; // a proxy's page, say
  }
  const message = typeof error?.message === "string" ? error.message : `HTTP ${response.status}`;
  const code = typeof error?.code === "string" ? error.code : typeof error?.type === "string" ? error.type : "";
  return new ApiError(response.status, code, message, response.headers.get("x-request-id"));
}
