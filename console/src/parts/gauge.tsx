import type { Decimal } from "../api/exact";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";

export type State = "CLOSED" | "HALF_OPEN" | "OPEN";

export function StateBadge({ state }: { state: State }) {
  const t = useText();
  const kind = { CLOSED: "good", HALF_OPEN: "warn", OPEN: "bad" }[state];
  return <span className={`badge ${kind}`}>{t.budget.states[state]}</span>;
}

interface GaugeProps {
  /** What it is of, for those who don't see it. */
  label: string;
  spent: Decimal;
  reserved: Decimal;
  limit: Decimal | null;
  state: State;
  /** Shares of the limit that are marked, where they are known. */
  marks?: readonly Decimal[];
  /** Whether the marks' shares are written below. */
  labelled?: boolean;
}

/** Spent and reserved of a limit. Its lengths are drawn, the amounts are told beside it. */
export function Gauge({ label, spent, reserved, limit, state, marks = [], labelled = false }: GaugeProps) {
  const format = useFormat();
  const whole = limit === null ? 0 : Number(limit);
  const share = (amount: Decimal) => (whole > 0 ? Math.min(1, Math.max(0, Number(amount) / whole)) : 0);
  const used = share(spent);
  const held = Math.min(1 - used, share(reserved));
  const gauge = (
    <div className={`gauge ${state.toLowerCase()}`} role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(used * 100)}>
      <span className="spent" style={{ width: `${used * 100}%` }} />
      <span className="reserved" style={{ left: `${used * 100}%`, width: `${held * 100}%` }} />
      {limit !== null && marks.map((mark) => <span key={mark} className="mark" style={{ left: `${Number(mark) * 100}%` }} />)}
    </div>
  );
  if (!labelled || limit === null) return gauge;
  return (
    <div>
      {gauge}
      <div className="gauge-scale" aria-hidden="true">
        {marks.map((mark) => (
          <span key={mark} style={{ left: `${Number(mark) * 100}%` }}>
            {format.percent(mark)}
          </span>
        ))}
      </div>
    </div>
  );
}
