/** Shares as percentages and back, exact: the point moves, and nothing is divided. */
import type { Decimal } from "../api/exact";

/** @param share such as `0.875`; @returns `87.5` */
export function percentOf(share: Decimal): string {
  return moved(share, 2);
}

/** @param percent as typed, such as `87.5`; @returns `0.875` */
export function shareOf(percent: string): Decimal {
  return moved(percent, -2) as Decimal;
}

function moved(decimal: string, places: number): string {
  const [whole = "", fraction = ""] = decimal.split(".");
  const digits = "0".repeat(Math.max(0, -places)) + whole + fraction + "0".repeat(Math.max(0, places));
  const point = Math.max(0, -places) + whole.length + places;
  const [before, after] = [digits.slice(0, point).replace(/^0+(?=\d)/, ""), digits.slice(point).replace(/0+$/, "")];
  return after === "" ? before : `${before}.${after}`;
}
