/** Language and theme, which are no secrets: they stay in local storage, and follow the browser until they are chosen. */
import { createContext, useContext, useEffect, useState, type ReactNode } from "react";

export const LANGUAGES = ["en", "ja"] as const;
export type Language = (typeof LANGUAGES)[number];
export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

export interface Preferences {
  language: Language;
  theme: Theme;
  setLanguage: (language: Language) => void;
  setTheme: (theme: Theme) => void;
}

const PreferencesContext = createContext<Preferences | null>(null);

/** @throws Error outside of `PreferencesProvider` */
export function usePreferences(): Preferences {
  const preferences = useContext(PreferencesContext);
  if (preferences === null) throw new Error("There are no preferences here.");
  return preferences;
}

export function PreferencesProvider({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useStored("fusewire.language", LANGUAGES, () =>
    navigator.language.startsWith("ja") ? "ja" : "en",
  );
  const [theme, setTheme] = useStored("fusewire.theme", THEMES, () => "system");
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  useEffect(() => {
    document.documentElement.dataset["theme"] = theme;
  }, [theme]);
  return <PreferencesContext value={{ language, theme, setLanguage, setTheme }}>{children}</PreferencesContext>;
}

function useStored<T extends string>(name: string, known: readonly T[], initial: () => T): [T, (value: T) => void] {
  const [value, setValue] = useState<T>(() => known.find((each) => each === localStorage.getItem(name)) ?? initial());
  return [
    value,
    (chosen) => {
      localStorage.setItem(name, chosen);
      setValue(chosen);
    },
  ];
}
