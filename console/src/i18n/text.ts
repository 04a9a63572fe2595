import { usePreferences } from "../preferences";
import { en } from "./en";
import { ja } from "./ja";

export type Text = typeof en;

const TEXTS: Record<"en" | "ja", Text> = { en, ja };

/** The console's words in the language that is chosen. */
export function useText(): Text {
  return TEXTS[usePreferences().language];
}
