/** How the console writes days, shares and searches. */
import { expect, test } from "vitest";
import type { Decimal } from "../../console/src/api/exact";
import { daysAgo } from "../../console/src/format/days";
import { percentOf, shareOf } from "../../console/src/format/shares";
import { searched } from "../../console/src/pages/keys";

test("today is the gateway's, and so are the days before", () => {
  const at = Date.parse("2026-03-01T03:30:00Z");
  expect(daysAgo(0, "UTC", at)).toBe("2026-03-01");
  expect(daysAgo(0, "America/New_York", at)).toBe("2026-02-28");
  expect(daysAgo(0, "Pacific/Kiritimati", Date.parse("2026-02-28T10:00:00Z"))).toBe("2026-03-01");
  // Days are counted, not hours: one of these was 23 hours long, and one 25.
  expect(daysAgo(1, "America/New_York", Date.parse("2026-03-09T04:30:00Z"))).toBe("2026-03-08");
  expect(daysAgo(1, "America/New_York", Date.parse("2026-11-02T04:30:00Z"))).toBe("2026-10-31");
  expect(daysAgo(29, "Asia/Tokyo", at)).toBe("2026-01-31");
});

test("a share is a percentage to the digit, and back", () => {
  const pairs = [["0.8", "80"], ["0.95", "95"], ["0.875", "87.5"], ["1", "100"], ["0.000001", "0.0001"], ["0.07", "7"], ["0.999999", "99.9999"]]; // prettier-ignore
  for (const [share, percent] of pairs as [Decimal, string][]) {
    expect(percentOf(share)).toBe(percent);
    expect(shareOf(percent)).toBe(share);
  }
  expect(shareOf("80.0")).toBe("0.8");
  expect(shareOf("150")).toBe("1.5"); // which the API refuses
});

test("no secret is searched for", () => {
  expect(searched(" Search 100% ")).toBe("Search 100%");
  expect(searched("fw_abcdefghijklmnopqrstuvwxyz")).toBe("fw_abcdefgh");
});
