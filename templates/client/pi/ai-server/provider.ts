// The models as pi knows them: what the server lists, or what Paddock wrote down where the server is out of reach.
import type { ExtensionAPI, ProviderModelConfig } from "@earendil-works/pi-coding-agent";
import type { Config, RenderedModel } from "./config.ts";
import { debug } from "./debug.ts";
import { isNeeded, type Relay, relay } from "./relay.ts";
import type { Model, Server } from "./server.ts";

/** Of a model whose context nobody knows before it is loaded: too few tokens are summarized early, too many are refused. */
const UNKNOWN_CONTEXT = 32_768;
const LONGEST_ANSWER = 32_768;

export class Provider {
  private readonly pi: ExtensionAPI;
  private readonly server: Server;
  private relay?: Relay;

  constructor(pi: ExtensionAPI, server: Server) {
    this.pi = pi;
    this.server = server;
  }

  /** What the server has now becomes what pi offers. Raises Trouble where the server cannot be asked. */
  async refresh(timeoutMs?: number): Promise<Model[]> {
    const models = await this.server.models(timeoutMs);
    const { config } = this.server;
    await this.register(models.filter((model) => model.hasPath && model.chats).map((model) => live(model, config)));
    return models;
  }

  /** What was served when Paddock last came by. */
  async fallBack(): Promise<void> {
    await this.register(this.server.config.models.map((model) => definition(model)));
  }

  close(): void {
    this.relay?.close();
    this.relay = undefined;
  }

  private async register(models: ProviderModelConfig[]): Promise<void> {
    const { config } = this.server;
    if (!models.length || config.fault) return;
    if (isNeeded(config)) this.relay ??= await relay(config);
    debug(`${config.provider}: ${models.map((model) => model.id).join(", ")}`);
    this.pi.registerProvider(config.provider, {
      baseUrl: `${this.relay?.url ?? config.url}/v1`,
      apiKey: this.relay?.key ?? config.key ?? "none",
      api: "openai-completions",
      models,
    });
  }
}

function live(model: Model, config: Config): ProviderModelConfig {
  const rendered = config.models.find((each) => each.id === model.id);
  const input = model.images ? (["text", "image"] as const) : rendered?.input;
  return definition({ id: model.id, input: input && [...input], contextWindow: model.context ?? rendered?.contextWindow });
}

function definition(model: RenderedModel): ProviderModelConfig {
  const contextWindow = model.contextWindow ?? UNKNOWN_CONTEXT;
  return {
    id: model.id,
    name: model.id,
    reasoning: false,
    input: model.input ?? ["text"],
    cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
    contextWindow,
    maxTokens: Math.min(LONGEST_ANSWER, Math.floor(contextWindow / 2)),
    compat: { supportsDeveloperRole: false, supportsStore: false, maxTokensField: "max_tokens" },
  };
}
