import { CSPProvider } from "@base-ui/react/csp-provider";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Router } from "wouter";
import { App } from "./app";
import { useHashLocation, useHashSearch } from "./location";
import { Toasts } from "./parts/toasts";
import { PreferencesProvider } from "./preferences";
import { SessionProvider } from "./session";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/parts.css";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no #root.");

// Routes are behind a #: any server of files serves every page, at whatever path.
createRoot(root).render(
  <StrictMode>
    <CSPProvider disableStyleElements>
      <PreferencesProvider>
        <Router hook={useHashLocation} searchHook={useHashSearch}>
          <Toasts>
            <SessionProvider>
              <App />
            </SessionProvider>
          </Toasts>
        </Router>
      </PreferencesProvider>
    </CSPProvider>
  </StrictMode>,
);
