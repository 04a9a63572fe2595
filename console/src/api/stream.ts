/** A streamed chat completion, read as it comes. */
import { API_ORIGIN, reach } from "./client";
import { ApiError, errorOf } from "./errors";
import { parseExact, type Decimal } from "./exact";

export interface Question {
  model: string;
  system: string;
  prompt: string;
  maxTokens: number | null;
}

/** The body as every client would send it. */
export function bodyOf({ model, system, prompt, maxTokens }: Question) {
  return {
    model,
    messages: [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: prompt }],
    ...(maxTokens !== null && { max_completion_tokens: maxTokens }),
    stream: true,
    stream_options: { include_usage: true },
  };
}

export interface Served {
  requestId: string | null;
  provider: string | null;
  model: string | null;
  attempts: string | null;
  /** The tier that was asked for, where a cheaper one answers. */
  downgradedFrom: string | null;
  /** In tokens, where it is smaller than what was asked for. */
  outputCap: string | null;
}

interface Chunk {
  choices?: { delta?: { content?: string | null; reasoning_content?: string | null }; finish_reason?: string | null }[];
  usage?: { prompt_tokens?: string | number; completion_tokens?: string | number; cost?: Decimal } | null;
  error?: { message?: string; code?: string | null };
}

export type Event =
  | { kind: "head"; served: Served }
  | { kind: "text"; text: string }
  | { kind: "finish"; reason: string }
  | { kind: "usage"; input: string; output: string; cost: Decimal | null };

/**
 * Ask, and yield what comes.
 *
 * @throws ApiError when the call is refused, or breaks off with an error
 * @throws UnreachableError when there is no answer
 */
export async function* ask(key: string | null, question: Question, signal: AbortSignal): AsyncGenerator<Event> {
  const response = await reach(
    new Request(`${API_ORIGIN}/api/v1/chat/completions`, {
      method: "POST",
      credentials: "omit",
      signal,
      headers: { "content-type": "application/json", ...(key !== null && { authorization: `Bearer ${key}` }) },
      body: JSON.stringify(bodyOf(question)),
    }),
    async (answer) => answer, // which is read as it comes
  );
  if (!response.ok || response.body === null) throw errorOf(response, await response.text());
  const header = (name: string) => response.headers.get(name);
  yield {
    kind: "head",
    served: {
      requestId: header("x-request-id"),
      provider: header("x-fusewire-provider"),
      model: header("x-fusewire-model"),
      attempts: header("x-fusewire-attempts"),
      downgradedFrom: header("x-fusewire-downgraded-from"),
      outputCap: header("x-fusewire-output-cap"),
    },
  };
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = parseExact<Chunk>(data);
    if (chunk.error) throw new ApiError(response.status, chunk.error.code ?? "", chunk.error.message ?? "", header("x-request-id"));
    const [choice] = chunk.choices ?? [];
    if (choice?.delta?.content) yield { kind: "text", text: choice.delta.content };
    if (choice?.finish_reason) yield { kind: "finish", reason: choice.finish_reason };
    if (chunk.usage) {
      const { prompt_tokens: input, completion_tokens: output, cost } = chunk.usage;
      yield { kind: "usage", input: String(input ?? ""), output: String(output ?? ""), cost: cost ?? null };
    }
  }
  throw new ApiError(response.status, "incomplete", "The stream ended before its last event.", header("x-request-id"));
}

/** The data of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). */
export async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const lines = block.split("\n").filter((line) => line.startsWith("data:"));
        if (lines.length > 0) yield lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
      }
    }
  } finally {
    await reader.cancel();
  }
}
