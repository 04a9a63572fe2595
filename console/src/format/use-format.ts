/** Amounts, counts and times as the chosen language writes them. */
import type { Decimal } from "../api/exact";
import { usePreferences, type Language } from "../preferences";

const LOCALES: Record<Language, string> = { en: "en-US", ja: "ja-JP" };
const MAX_DIGITS = 20;

export type Format = ReturnType<typeof formatIn>;

export function formatIn(language: Language) {
  const locale = LOCALES[language];
  // `Intl` takes decimals as text, and rounds none of their digits away.
  const money = new Intl.NumberFormat(locale, {
    style: "currency",
    currency: "USD",
    currencyDisplay: "narrowSymbol",
    minimumFractionDigits: 2,
    maximumFractionDigits: MAX_DIGITS,
  });
  const rounded = new Intl.NumberFormat(locale, { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", maximumSignificantDigits: 3 });
  const percent = new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 2 });
  const count = new Intl.NumberFormat(locale);
  const decimal = new Intl.NumberFormat(locale, { maximumFractionDigits: MAX_DIGITS });
  const moment = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
  const precise = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" });
  const day = new Intl.DateTimeFormat(locale, { month: "short", day: "numeric", timeZone: "UTC" });
  const wholeDay = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeZone: "UTC" });
  const date = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
  return {
    /** An exact amount, every digit of it. */
    usd: (amount: Decimal) => money.format(amount),
    /** For a chart's axis, where no amount is told. */
    axis: (amount: number) => rounded.format(amount),
    percent: (ratio: Decimal) => percent.format(ratio),
    count: (number: number) => count.format(number),
    decimal: (number: Decimal) => decimal.format(number),
    moment: (iso: string | number) => moment.format(new Date(iso)),
    precise: (iso: string | number) => precise.format(new Date(iso)),
    date: (iso: string) => date.format(new Date(iso)),
    /** A calendar day, which is in no zone; in short, and with its year. */
    day: (iso: string) => day.format(new Date(`${iso}T00:00:00Z`)),
    wholeDay: (iso: string) => wholeDay.format(new Date(`${iso}T00:00:00Z`)),
  };
}

const FORMATS = new Map<Language, Format>();

/** One for all components: making those of `Intl` takes milliseconds. */
export function useFormat(): Format {
  const { language } = usePreferences();
  const made = FORMATS.get(language) ?? formatIn(language);
  FORMATS.set(language, made);
  return made;
}
