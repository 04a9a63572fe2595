/** Amounts as bars. What is drawn is rounded to pixels; each amount that is told is the API's own. */
import { scaleBand, scaleLinear } from "d3-scale";
import { stack, type SeriesPoint } from "d3-shape";
import { useId, useLayoutEffect, useRef, useState, type ReactNode } from "react";
import type { Decimal } from "../api/exact";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { Usd } from "./usd";

export interface Point {
  /** `YYYY-MM-DD`. */
  day: string;
  series: string;
  amount: Decimal;
}

const HEIGHT = 240;
const MARGIN = { top: 12, right: 8, bottom: 26, left: 62 };
const COLOURS = 8;
const MIN_LABEL_PIXELS = 68;
const BAR_PIXELS = 44;

/** Bars by day, of stacked series; the largest series is at the bottom. */
export function DayChart({ points, label }: { points: readonly Point[]; label: string }) {
  const format = useFormat();
  const t = useText();
  const [frame, width] = useWidth();
  const [active, setActive] = useState<string | null>(null);
  const title = useId();
  const days = allDays(points.map((point) => point.day));
  const names = bySize(points);
  const amounts = new Map(points.map((point) => [`${point.day}\n${point.series}`, point.amount]));
  const drawn = days.map((day) => ({ day, of: (name: string) => Math.max(0, Number(amounts.get(`${day}\n${name}`) ?? 0)) }));
  const layers = stack<unknown, (typeof drawn)[number], string>().keys(names).value((each, name) => each.of(name))(drawn);
  const top = Math.max(0, ...layers.flatMap((layer) => layer.map((point) => point[1])));
  const x = scaleBand<string>().domain(days).range([MARGIN.left, width - MARGIN.right]).padding(0.25);
  const y = scaleLinear().domain([0, top || 1]).nice(4).range([HEIGHT - MARGIN.bottom, MARGIN.top]);
  const every = Math.ceil((MIN_LABEL_PIXELS * days.length) / Math.max(1, width - MARGIN.left));
  const shown = names.flatMap((name) => {
    const amount = active === null ? undefined : amounts.get(`${active}\n${name}`);
    return amount === undefined ? [] : [{ name, amount }];
  });
  const bar = (point: SeriesPoint<(typeof drawn)[number]>) => ({ y: y(point[1]), height: Math.max(0, y(point[0]) - y(point[1])) });
  const barWidth = Math.min(BAR_PIXELS, x.bandwidth());
  const inset = (x.bandwidth() - barWidth) / 2;

  return (
    <figure className="chart" ref={frame}>
      <svg width={width} height={HEIGHT} role="img" aria-labelledby={title} onPointerLeave={() => setActive(null)}>
        <title id={title}>{label}</title>
        {y.ticks(4).map((tick) => (
          <g key={tick} transform={`translate(0 ${y(tick)})`}>
            <line className="grid" x1={MARGIN.left} x2={width - MARGIN.right} />
            <text className="tick" x={MARGIN.left - 8} dy="0.32em" textAnchor="end">
              {format.axis(tick)}
            </text>
          </g>
        ))}
        {layers.map((layer, index) => (
          <g key={layer.key} className={`series-${index % COLOURS}`}>
            {layer.map((point) => (
              <rect key={point.data.day} x={(x(point.data.day) ?? 0) + inset} width={barWidth} {...bar(point)} />
            ))}
          </g>
        ))}
        {days.map((day, index) => (
          <g key={day} onPointerEnter={() => setActive(day)}>
            <rect className={active === day ? "hover on" : "hover"} x={x(day)} width={x.bandwidth()} y={MARGIN.top} height={HEIGHT - MARGIN.top - MARGIN.bottom} />
            {index % every === 0 && (
              <text className="tick" x={(x(day) ?? 0) + x.bandwidth() / 2} y={HEIGHT - 8} textAnchor="middle">
                {format.day(day)}
              </text>
            )}
          </g>
        ))}
      </svg>
      <figcaption>
        <ul className="legend">
          {names.map((name, index) => (
            <li key={name}>
              <span className={`swatch series-${index % COLOURS}`} aria-hidden="true" />
              {name || t.usage.none}
              {active !== null && <b>{shown.find((each) => each.name === name) ? format.usd(amounts.get(`${active}\n${name}`) ?? "0") : "–"}</b>}
            </li>
          ))}
          {active !== null && <li className="muted">{format.day(active)}</li>}
        </ul>
      </figcaption>
    </figure>
  );
}

/** Bars beside each other, the longest first, with their exact amounts. */
export function RankChart({ rows, label }: { rows: readonly { id: string; name: ReactNode; amount: Decimal }[]; label: string }) {
  const top = Math.max(0, ...rows.map((row) => Number(row.amount)));
  return (
    <ol className="rank" aria-label={label}>
      {rows.map((row) => (
        <li key={row.id}>
          <span>{row.name}</span>
          <span className="rank-amount">
            <Usd amount={row.amount} />
          </span>
          <span className="rank-bar" aria-hidden="true">
            <span style={{ width: `${top > 0 ? Math.max(0.5, (Math.max(0, Number(row.amount)) / top) * 100) : 0}%` }} />
          </span>
        </li>
      ))}
    </ol>
  );
}

function bySize(points: readonly Point[]): string[] {
  const sizes = new Map<string, number>();
  for (const { series, amount } of points) sizes.set(series, (sizes.get(series) ?? 0) + Number(amount));
  return [...sizes.entries()].sort(([, a], [, b]) => b - a).map(([name]) => name);
}

/** Every day from the first to the last, those without spend too. */
function allDays(days: readonly string[]): string[] {
  const [first, last] = [days.reduce((a, b) => (a < b ? a : b), "9"), days.reduce((a, b) => (a > b ? a : b), "")];
  const all: string[] = [];
  for (let at = Date.parse(first); at <= Date.parse(last) && all.length < 1000; at += 86_400_000)
    all.push(new Date(at).toISOString().slice(0, 10));
  return all;
}

function useWidth(): [(element: HTMLElement | null) => void, number] {
  const [element, setElement] = useState<HTMLElement | null>(null);
  const [width, setWidth] = useState(640);
  const observer = useRef<ResizeObserver | null>(null);
  useLayoutEffect(() => {
    if (element === null) return undefined;
    observer.current = new ResizeObserver(([entry]) => entry && setWidth(Math.max(200, Math.floor(entry.contentRect.width))));
    observer.current.observe(element);
    return () => observer.current?.disconnect();
  }, [element]);
  return [setElement, width];
}
