import { Dialog as Base } from "@base-ui/react/dialog";
import type { FormEvent, ReactNode } from "react";
import { useText } from "../i18n/text";
import { Failure, Waiting } from "./states";

interface DialogProps {
  title: string;
  children: ReactNode;
  onClose: () => void;
}

/** A modal dialog: it holds the focus, Escape closes it, and the focus goes back to where it was. */
export function Dialog({ title, children, onClose }: DialogProps) {
  return (
    <Base.Root open onOpenChange={(open) => !open && onClose()}>
      <Base.Portal>
        <Base.Backdrop className="backdrop" />
        <Base.Popup className="dialog">
          <Base.Title className="dialog-title">{title}</Base.Title>
          {children}
        </Base.Popup>
      </Base.Portal>
    </Base.Root>
  );
}

interface FormDialogProps extends DialogProps {
  /** What the button says. */
  action: string;
  /** Whether it takes something away for good. */
  dangerous?: boolean;
  busy: boolean;
  error: Error | null;
  ready?: boolean;
  onSubmit: () => void;
}

/** A dialog that asks for something, and stays open with what went wrong. */
export function FormDialog(props: FormDialogProps) {
  const t = useText();
  function submit(event: FormEvent) {
    event.preventDefault();
    props.onSubmit();
  }
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form onSubmit={submit}>
        <div className="dialog-body">{props.children}</div>
        {props.error && <Failure error={props.error} />}
        {props.busy && (
          <p className="muted small" role="status">
            <Waiting />
          </p>
        )}
        <div className="dialog-actions">
          <button type="button" className="button" onClick={props.onClose}>
            {t.actions.cancel}
          </button>
          <button className={props.dangerous ? "button danger" : "button primary"} disabled={props.busy || props.ready === false}>
            {props.busy ? t.states.busy : props.action}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
