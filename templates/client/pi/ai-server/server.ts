// The llama-server behind it: its models, and the small endpoint that administrators reach.
import type { Config } from "./config.ts";
import { type Answer, ask, Trouble } from "./transport.ts";

export interface Model {
  id: string;
  status: string; // llama-server's own word, or "failed"
  exitCode?: number;
  context?: number; // tokens that one conversation may have
  images: boolean;
  chats: boolean;
  hasPath: boolean;
  isFixed: boolean; // of a server with this one model: it has it for good
}

export const isInMemory = (model: Model): boolean => model.status === "loaded" || model.status === "sleeping";

/** What a site answers that leads to no admin endpoint, and what llama-server itself does. */
const NO_ENDPOINT = new Set(["", "There is no admin endpoint behind this site.", "File Not Found"]);

/** llama-server lists each part of a model that it finds in a directory as if it were a model. */
const isPart = (id: string): boolean => /-\d+-of-\d+$/.test(id);

interface Entry {
  id: string;
  status?: { value: string; args?: string[]; failed?: boolean; exit_code?: number };
  meta?: { n_ctx?: number } | null;
  architecture?: { input_modalities?: string[]; output_modalities?: string[] };
}

export class Server {
  readonly config: Config;

  constructor(config: Config) {
    this.config = config;
  }

  /** Every model but the parts of others, also those that nothing can be loaded for. */
  async models(timeoutMs?: number): Promise<Model[]> {
    const { data } = this.parsed<{ data?: Entry[] }>(await ask(this.config, "GET", "/models", undefined, timeoutMs));
    if (!Array.isArray(data)) throw new Trouble(`${this.config.url}/models is no list of models: is this a llama-server?`);
    return data.filter((entry) => !isPart(entry.id)).map(model);
  }

  async load(id: string): Promise<void> {
    this.parsed(await ask(this.config, "POST", "/models/load", { model: id }));
  }

  async unload(id: string): Promise<void> {
    this.parsed(await ask(this.config, "POST", "/models/unload", { model: id }));
  }

  async isHealthy(): Promise<boolean> {
    return (await ask(this.config, "GET", "/health")).status === 200;
  }

  async preset(): Promise<string> {
    return this.administered(await ask(this.config, "GET", "/paddock/admin/preset")).text;
  }

  async setContext(id: string, size: number): Promise<{ was?: number | string | null; note?: string }> {
    return this.parsed(this.administered(await ask(this.config, "POST", "/paddock/admin/ctx", { model: id, size })));
  }

  async restart(): Promise<string[]> {
    const answer = this.administered(await ask(this.config, "POST", "/paddock/admin/restart", {}));
    return this.parsed<{ restarted?: string[] }>(answer).restarted ?? [];
  }

  private administered(answer: Answer): Answer {
    const own = message(answer);
    if (answer.status === 403 && (!own || own.includes("no administrator"))) {
      throw new Trouble("this client is no administrator: it needs `admin: true` in the fleet's inventory, and then `paddock up`");
    }
    if (answer.status === 404 && NO_ENDPOINT.has(own)) {
      throw new Trouble("the server's host does not carry the role `admin`, which does this: it is added in the fleet's inventory");
    }
    if (answer.status !== 200) throw new Trouble(own || `the admin endpoint answered HTTP ${answer.status}`);
    return answer;
  }

  private parsed<T>(answer: Answer): T {
    if (answer.status !== 200) throw new Trouble(this.refusal(answer));
    try {
      return JSON.parse(answer.text) as T;
    } catch {
      throw new Trouble(`${this.config.url} answered something else than JSON: is this a llama-server?`);
    }
  }

  private refusal(answer: Answer): string {
    if (answer.status === 401 && this.config.key) {
      return "the bridge does not know this key: it may have changed since pi was started, so start pi anew";
    }
    if (answer.status >= 502 && answer.status <= 504 && !message(answer)) {
      return `the server behind ${this.config.url} does not answer (HTTP ${answer.status})`;
    }
    return `${this.config.url}: ${message(answer) || "refused"} (HTTP ${answer.status})`;
  }
}

/** An administrator sees command lines; of other clients the site keeps them, and says in their place what they mean. */
function model(entry: Entry): Model {
  const args = entry.status?.args ?? [];
  const has = (...options: string[]): boolean => options.some((option) => args.includes(option));
  return {
    id: entry.id,
    status: entry.status?.failed ? "failed" : (entry.status?.value ?? "loaded"),
    exitCode: entry.status?.exit_code,
    context: entry.meta?.n_ctx ?? contextOf(args),
    images: (entry.architecture?.input_modalities ?? []).includes("image"),
    chats: (entry.architecture?.output_modalities ?? ["text"]).includes("text") && !has("--embedding", "--embeddings", "--rerank", "--reranking"),
    hasPath: !entry.status?.args || has("--model", "--model-url", "--hf-repo"),
    isFixed: !entry.status,
  };
}

/** Slots share the context evenly, unless their cache is one. */
function contextOf(args: string[]): number | undefined {
  const number = (option: string): number => Number(args.includes(option) ? args[args.indexOf(option) + 1] : 0);
  const slots = args.includes("--kv-unified") ? 1 : Math.max(number("--parallel"), 1);
  return Math.floor(number("--ctx-size") / slots) || undefined;
}

function message(answer: Answer): string {
  try {
    const { error } = JSON.parse(answer.text) as { error?: { message?: string } };
    return error?.message ?? "";
  } catch {
    return "";
  }
}
