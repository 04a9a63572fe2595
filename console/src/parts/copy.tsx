import { useState } from "react";
import { useText } from "../i18n/text";

/** Puts a text on the clipboard, and says so. */
export function Copy({ text, label }: { text: string; label?: string }) {
  const t = useText();
  const [state, setState] = useState<"idle" | "copied" | "failed">("idle");
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      setState("copied");
    } catch {
      setState("failed"); // the browser allows it on safe origins alone: the text can be marked by hand
    }
  }
  const words = { idle: label ?? t.actions.copy, copied: t.actions.copied, failed: t.actions.copyFailed };
  return (
    <button type="button" className="button small" onClick={() => void copy()} aria-live="polite">
      {words[state]}
    </button>
  );
}
