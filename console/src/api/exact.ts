/** JSON whose decimals stay as the API wrote them: a double would change amounts. */
import { parse } from "lossless-json";
import { INTEGERS } from "./integers";

/** A decimal as the API wrote it, such as `0.000123`. Never reckon with it: the API sums. */
export type Decimal = `${number}`;

const asWritten = (text: string): Decimal => text as Decimal;

/**
 * @returns the value, its integers (`INTEGERS`, by their properties' names) as numbers and all other numbers as decimals
 * @throws SyntaxError when the text isn't JSON
 */
export function parseExact<T>(text: string): T {
  return revive(parse(text, null, asNumber)) as T;
}

class Token {
  constructor(readonly text: string) {}
}

function asNumber(text: string): Token {
  return new Token(text);
}

function revive(value: unknown, name?: string): unknown {
  if (value instanceof Token) return name !== undefined && INTEGERS.has(name) ? Number(value.text) : asWritten(value.text);
  if (Array.isArray(value)) return value.map((each) => revive(each, name));
  if (value !== null && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, revive(each, key)]));
  return value;
}

/** By size, as for `Array.sort`, without a double between. */
export function compareDecimals(one: Decimal, other: Decimal): number {
  const [a, b] = [scaled(one), scaled(other)];
  const places = Math.max(a.places, b.places);
  const left = a.digits * 10n ** BigInt(places - a.places);
  const right = b.digits * 10n ** BigInt(places - b.places);
  return left < right ? -1 : left > right ? 1 : 0;
}

function scaled(decimal: Decimal): { digits: bigint; places: number } {
  const [coefficient = "0", exponent = "0"] = decimal.toLowerCase().split("e");
  const [whole = "0", fraction = ""] = coefficient.split(".");
  const places = fraction.length - Number(exponent);
  const digits = BigInt(whole + fraction);
  return places < 0 ? { digits: digits * 10n ** BigInt(-places), places: 0 } : { digits, places };
}
