import { Component, lazy, Suspense, type ComponentType, type ReactNode } from "react";
import { Redirect, Route, Switch, useLocation } from "wouter";
import type { Text } from "./i18n/text";
import { Failure, Loading } from "./parts/states";
import { useSession, type Permissions } from "./session";
import { Shell } from "./shell";

interface Page {
  path: string;
  /** Its name in the navigation; none: it is reached from another page. */
  name?: keyof Text["pages"];
  allowed: (may: Permissions) => boolean;
  component: ComponentType<{ params: Record<string, string> }>;
}

const page = (load: () => Promise<{ default: Page["component"] }>) => lazy(load);

/** Every page, and who may see it. */
export const PAGES: readonly Page[] = [
  { path: "/overview", name: "overview", allowed: (may) => may.readsCompany, component: page(() => import("./pages/overview")) },
  { path: "/me", name: "me", allowed: (may) => !may.readsCompany, component: page(() => import("./pages/own")) },
  { path: "/budgets", name: "budgets", allowed: (may) => may.read, component: page(() => import("./pages/budgets")) },
  { path: "/adjustments", allowed: (may) => may.readsCompany, component: page(() => import("./pages/adjustments")) },
  { path: "/keys", name: "keys", allowed: (may) => may.read, component: page(() => import("./pages/keys")) },
  { path: "/keys/:id", allowed: (may) => may.read, component: page(() => import("./pages/key")) },
  { path: "/usage", name: "usage", allowed: (may) => may.read, component: page(() => import("./pages/usage")) },
  { path: "/calls", name: "calls", allowed: (may) => may.read, component: page(() => import("./pages/calls")) },
  { path: "/calls/:id", allowed: (may) => may.read, component: page(() => import("./pages/call")) },
  { path: "/providers", name: "providers", allowed: (may) => may.readsCompany, component: page(() => import("./pages/providers")) },
  { path: "/audit", name: "audit", allowed: (may) => may.read, component: page(() => import("./pages/audit")) },
  { path: "/models", name: "models", allowed: () => true, component: page(() => import("./pages/models")) },
  { path: "/playground", name: "playground", allowed: (may) => may.complete, component: page(() => import("./pages/playground")) },
];

export function App() {
  const { may } = useSession();
  const [location] = useLocation();
  const pages = PAGES.filter((each) => each.allowed(may));
  return (
    <Shell pages={pages.flatMap(({ path, name }) => (name ? [{ path, name }] : []))}>
      <Caught key={location}>
        <Suspense fallback={<Loading />}>
          <Switch>
            {pages.map(({ path, component }) => (
              <Route key={path} path={path} component={component} />
            ))}
            <Route>
              <Redirect to={may.readsCompany ? "/overview" : "/me"} replace />
            </Route>
          </Switch>
        </Suspense>
      </Caught>
    </Shell>
  );
}

/** A page that fails leaves the rest of the console as it is. */
class Caught extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    if (this.state.error === null) return this.props.children;
    return <Failure error={this.state.error} onRetry={() => window.location.reload()} />;
  }
}
