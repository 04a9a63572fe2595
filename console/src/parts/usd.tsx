import type { Decimal } from "../api/exact";
import { useFormat } from "../format/use-format";

/** An exact amount, whose cents are below each other in a column, and what is less than a cent is fainter. */
export function Usd({ amount }: { amount: Decimal }) {
  const text = useFormat().usd(amount);
  const cents = text.search(/\.\d\d/) + 3;
  const faint = /[1-9]/.test(text.slice(0, cents));
  return (
    <span className="usd">
      {text.slice(0, cents)}
      <span className={faint ? "below-cents faint" : "below-cents"}>{text.slice(cents)}</span>
    </span>
  );
}
