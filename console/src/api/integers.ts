// Made by `make console-api` of the OpenAPI document with this SHA-256: 2fa688dd173bbdfe1bb0e948e9ab712081fef44f9be2f2a1658ec9436c3c6080

/** The properties whose numbers are integers; all others are exact decimals. */
export const INTEGERS: ReadonlySet<string> = new Set([
  "attempt",
  "cache_write_tokens",
  "cached_input_tokens",
  "calls",
  "ends_in_seconds",
  "id",
  "input_tokens",
  "key_window_id",
  "n",
  "output_tokens",
  "overlap_seconds",
  "path_window_ids",
  "reasoning_tokens",
  "request_count",
  "requests",
  "requests_left",
  "requests_per_minute",
  "resets_at",
  "tokens_left",
  "tokens_per_minute",
  "waiting",
  "window_id",
]);
