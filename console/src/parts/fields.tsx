import { useId, type ReactNode } from "react";

interface FieldProps {
  label: string;
  help?: string | undefined;
  children: (id: string, describedBy: string | undefined) => ReactNode;
}

export function Field({ label, help, children }: FieldProps) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children(id, help ? `${id}-help` : undefined)}
      {help && (
        <p id={`${id}-help`} className="muted small">
          {help}
        </p>
      )}
    </div>
  );
}

interface InputProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
  help?: string;
  type?: "text" | "date" | "month" | "datetime-local" | "search" | "number";
  required?: boolean;
  placeholder?: string;
  pattern?: string;
  maxLength?: number;
}

export function TextField({ label, value, onChange, help, type = "text", ...more }: InputProps) {
  return (
    <Field label={label} help={help}>
      {(id, describedBy) => (
        <input id={id} type={type} value={value} onChange={(event) => onChange(event.target.value)} aria-describedby={describedBy} {...more} />
      )}
    </Field>
  );
}

type DecimalProps = Omit<InputProps, "type" | "pattern">;

/** An amount stays the text that was typed: it goes to the API as it is. */
export function AmountField(props: DecimalProps) {
  return <DecimalField {...props} before="$" />;
}

export function PercentField(props: DecimalProps) {
  return <DecimalField {...props} after="%" />;
}

function DecimalField(props: DecimalProps & { before?: string; after?: string }) {
  return (
    <Field label={props.label} help={props.help}>
      {(id, describedBy) => (
        <span className="affixed">
          {props.before && <span aria-hidden="true">{props.before}</span>}
          <input
            id={id}
            inputMode="decimal"
            pattern="-?[0-9]+(\.[0-9]+)?"
            value={props.value}
            required={props.required}
            placeholder={props.placeholder}
            onChange={(event) => props.onChange(event.target.value.trim())}
            aria-describedby={describedBy}
          />
          {props.after && <span aria-hidden="true">{props.after}</span>}
        </span>
      )}
    </Field>
  );
}

export function TextArea({ label, value, onChange, rows = 3, help, required }: Omit<InputProps, "type"> & { rows?: number }) {
  return (
    <Field label={label} help={help}>
      {(id, describedBy) => (
        <textarea id={id} rows={rows} value={value} required={required} onChange={(event) => onChange(event.target.value)} aria-describedby={describedBy} />
      )}
    </Field>
  );
}

export interface Option {
  value: string;
  label: string;
}

interface SelectProps {
  label: string;
  value: string;
  options: readonly Option[];
  onChange: (value: string) => void;
  help?: string;
}

export function SelectField({ label, value, options, onChange, help }: SelectProps) {
  return (
    <Field label={label} help={help}>
      {(id, describedBy) => (
        <select id={id} value={value} onChange={(event) => onChange(event.target.value)} aria-describedby={describedBy}>
          {options.map((option) => (
            <option key={option.value} value={option.value}>
              {option.label}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

interface ChecksProps {
  label: string;
  options: readonly Option[];
  chosen: readonly string[];
  onChange: (chosen: string[]) => void;
}

/** Several of a few, in the order in which they are offered. */
export function Checks({ label, options, chosen, onChange }: ChecksProps) {
  const toggled = (value: string, on: boolean) =>
    options.map((option) => option.value).filter((each) => (each === value ? on : chosen.includes(each)));
  return (
    <fieldset className="checks">
      <legend>{label}</legend>
      {options.map((option) => (
        <label key={option.value} className="check">
          <input type="checkbox" checked={chosen.includes(option.value)} onChange={(event) => onChange(toggled(option.value, event.target.checked))} />
          <span>{option.label}</span>
        </label>
      ))}
    </fieldset>
  );
}
