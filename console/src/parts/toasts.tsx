import { Toast } from "@base-ui/react/toast";
import type { ReactNode } from "react";
import { useText } from "../i18n/text";

/** Says what was done, in a corner and to screen readers, for some seconds. */
export function Toasts({ children }: { children: ReactNode }) {
  return (
    <Toast.Provider>
      {children}
      <Toast.Portal>
        <Toast.Viewport className="toasts">
          <List />
        </Toast.Viewport>
      </Toast.Portal>
    </Toast.Provider>
  );
}

function List() {
  const t = useText();
  const { toasts } = Toast.useToastManager();
  return toasts.map((toast) => (
    <Toast.Root key={toast.id} toast={toast} className="toast">
      <Toast.Content>
        <Toast.Title className="toast-title" render={<p />} />
      </Toast.Content>
      <Toast.Close className="button quiet small" aria-label={t.actions.close}>
        ×
      </Toast.Close>
    </Toast.Root>
  ));
}

export function useToast(): (title: string) => void {
  const { add } = Toast.useToastManager();
  return (title) => void add({ title });
}
