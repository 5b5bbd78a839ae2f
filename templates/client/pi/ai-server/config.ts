// Where the server is and what opens it: the models.json that Paddock wrote beside this directory, and the AI_SERVER_ variables.
import { readFileSync, realpathSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export interface RenderedModel {
  id: string;
  input?: ("text" | "image")[];
  contextWindow?: number;
  maxTokens?: number;
}

interface RenderedProvider {
  baseUrl: string;
  apiKey: string;
  models?: RenderedModel[];
}

export interface Credentials {
  ca: string;
  cert: string;
  key: string;
}

export interface Config {
  provider: string; // as models.json calls it, so that what is found live takes its place
  url: string; // of the server, without a slash or /v1 at its end
  key?: string; // the bridge asks for it
  tls?: Credentials; // an https server asks for these
  timeoutMs: number;
  timed: boolean; // somebody has said how long
  models: RenderedModel[];
  unused: string[]; // variables that are set and mean nothing here
  fault?: string; // why nothing can be asked
}

type Environment = Record<string, string | undefined>;

const DEFAULT_TIMEOUT_MS = 300_000;
const SSH_VARIABLES = ["AI_SERVER_SSH_HOST", "AI_SERVER_PRESET_PATH"];

export function readConfig(environment: Environment): Config {
  const [provider, rendered] = readRendered();
  const bridge = withoutPath(rendered?.baseUrl ?? "");
  const config: Config = {
    provider,
    url: withoutPath(environment.AI_SERVER_URL || bridge),
    timeoutMs: Number(environment.AI_SERVER_TIMEOUT_MS || DEFAULT_TIMEOUT_MS),
    timed: Boolean(environment.AI_SERVER_TIMEOUT_MS),
    models: rendered?.models ?? [],
    unused: SSH_VARIABLES.filter((name) => environment[name]),
  };
  // The bridge's key is for the bridge: no other address is told it.
  if (config.url === bridge) config.key = rendered?.apiKey;
  try {
    check(config);
    if (config.url.startsWith("https:")) config.tls = credentials(environment);
  } catch (error) {
    config.fault = (error as Error).message;
  }
  return config;
}

function check(config: Config): void {
  if (!config.url) throw new Error("AI_SERVER_URL says no server, and there is no models.json of Paddock's: set it to https://…");
  if (!/^https?:/.test(config.url) || !URL.canParse(config.url)) {
    throw new Error(`AI_SERVER_URL: ${config.url} is no web address: it begins with https:// or http://`);
  }
  if (!(config.timeoutMs > 0)) throw new Error("AI_SERVER_TIMEOUT_MS is no number of milliseconds, such as 300000");
}

function readRendered(): [string, RenderedProvider?] {
  const here = realpathSync(dirname(fileURLToPath(import.meta.url))); // pi was given a link to it
  try {
    const read = JSON.parse(readFileSync(join(here, "..", "models.json"), "utf8")) as { providers: Record<string, RenderedProvider> };
    return Object.entries(read.providers)[0] ?? ["ai-server"];
  } catch {
    return ["ai-server"];
  }
}

function credentials(environment: Environment): Credentials {
  const directory = environment.AI_SERVER_CERTS_DIR || "~/.pi/agent/certs";
  return {
    ca: readPem("AI_SERVER_CA", environment.AI_SERVER_CA || join(directory, "root-ca.pem")),
    cert: readPem("AI_SERVER_CLIENT_CERT", environment.AI_SERVER_CLIENT_CERT || join(directory, "client.pem")),
    key: readPem("AI_SERVER_CLIENT_KEY", environment.AI_SERVER_CLIENT_KEY || join(directory, "client-key.pem")),
  };
}

function readPem(variable: string, path: string): string {
  const whole = path.replace(/^~(?=\/)/, homedir());
  try {
    return readFileSync(whole, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`${whole} cannot be read (${code}), and an https server asks for it: ${variable} says where it lies`);
  }
}

function withoutPath(url: string): string {
  return url.replace(/\/+$/, "").replace(/\/v1$/, "");
}
