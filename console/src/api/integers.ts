// Made by `make console-api` of the OpenAPI document with this SHA-256: 5d551477f293aba66d8809d353a5658d655af4e99a91abbc0eb33c600c3f4549

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
