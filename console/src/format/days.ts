/** Calendar days, `YYYY-MM-DD`. The gateway's are those of its `AI_BUDGET_TIMEZONE`, wherever the browser is. */

const DAY_MILLISECONDS = 86_400_000;

/**
 * @param zone the gateway's time zone, by its IANA name
 * @param now milliseconds since 1970
 */
export function daysAgo(days: number, zone: string, now: number = Date.now()): string {
  const today = new Intl.DateTimeFormat("sv-SE", { timeZone: zone }).format(now); // Sweden writes days as ISO 8601
  return new Date(Date.parse(today) - days * DAY_MILLISECONDS).toISOString().slice(0, 10);
}
