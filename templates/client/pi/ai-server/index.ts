// Written by Paddock: the fleet's models for pi, live, and the commands that see to their server. docs/pi.md has what they do.
import type { ExtensionAPI } from "@earendil-works/pi-coding-agent";
import { registerCommands } from "./commands.ts";
import { readConfig } from "./config.ts";
import { debug } from "./debug.ts";
import { Provider } from "./provider.ts";
import { Server } from "./server.ts";
import { Trouble } from "./transport.ts";

/** pi waits for this before it starts. */
const START_MS = 4000;

export default async function aiServer(pi: ExtensionAPI): Promise<void> {
  const config = readConfig(process.env);
  const server = new Server(config);
  const provider = new Provider(pi, server);
  registerCommands(pi, server, provider);
  let trouble = "";
  try {
    await provider.refresh(Math.min(START_MS, config.timeoutMs));
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    trouble = `ai-server: ${error.message}`;
    debug(`${config.provider}: as Paddock wrote it down`);
    await provider.fallBack();
  }
  pi.on("session_start", (_event, context) => {
    if (!trouble) return;
    if (context.hasUI) context.ui.notify(trouble, "warning");
    else console.error(trouble);
    trouble = "";
  });
  pi.on("session_shutdown", () => provider.close());
}
