// The slash commands. What changes something for others asks first.
import type { ExtensionAPI, ExtensionCommandContext } from "@earendil-works/pi-coding-agent";
import type { Provider } from "./provider.ts";
import { isInMemory, type Model, type Server } from "./server.ts";
import { Trouble } from "./transport.ts";

const COMPLETION_MS = 2000;
const LOOK_AGAIN_MS = 500;

interface Command {
  about: string;
  offers?: (model: Model) => boolean; // which models its first argument is completed with
  run(words: string[], context: ExtensionCommandContext): Promise<void>;
}

export function registerCommands(pi: ExtensionAPI, server: Server, provider: Provider): void {
  for (const [name, command] of Object.entries(commands(server, provider))) {
    pi.registerCommand(`ai-server-${name}`, {
      description: command.about,
      getArgumentCompletions: (typed) => completions(server, typed, command.offers),
      handler: async (typed, context) => {
        try {
          await command.run(typed.trim().split(/\s+/).filter(Boolean), context);
        } catch (error) {
          if (!(error instanceof Trouble)) throw error;
          say(context, error.message, "error");
        }
      },
    });
  }
}

function commands(server: Server, provider: Provider): Record<string, Command> {
  return {
    status: {
      about: "The server's models, what each is doing, and its context",
      async run(_words, context) {
        say(context, table(await server.models()));
      },
    },
    refresh: {
      about: "Ask the server for its models, and offer those",
      async run(_words, context) {
        const offered = (await provider.refresh()).filter((model) => model.hasPath && model.chats);
        say(context, `${offered.length} models: ${offered.map((model) => model.id).join(", ")}`);
      },
    },
    load: {
      about: "Load a model: ID",
      offers: (model) => !isInMemory(model) && !model.isFixed,
      async run([id], context) {
        const models = await server.models();
        const model = named(models, id, "load");
        if (isInMemory(model)) return say(context, `${model.id} is loaded already`);
        const others = models.filter((each) => isInMemory(each)).map((each) => each.id);
        const why = `${others.join(", ")} may have to make room for it, and whoever is using that waits until it is back.`;
        if (others.length && !(await isMeant(context, `Load ${model.id}?`, why))) return;
        await load(server, model.id, context);
        await provider.refresh();
      },
    },
    unload: {
      about: "Take a model out of memory: ID",
      offers: (model) => isInMemory(model) && !model.isFixed,
      async run([id], context) {
        const model = named(await server.models(), id, "unload");
        if (model.isFixed) throw new Trouble(`${model.id} is the one model of its server, which has it for good`);
        if (!isInMemory(model)) return say(context, `${model.id} is not loaded`);
        const why = "Whoever is using it is cut off; the next request loads it anew.";
        if (!(await isMeant(context, `Unload ${model.id}?`, why))) return;
        await server.unload(model.id);
        await waited(server, context, model.id, "unloading", (now) => now.status === "unloaded");
        say(context, `${model.id} is unloaded`);
      },
    },
    ctx: {
      about: "Give a model another context until the next `paddock up`: ID SIZE",
      offers: (model) => !model.isFixed,
      async run([id, typed], context) {
        tellUnused(server, context);
        const model = named(await server.models(), id, "ctx", " SIZE");
        const size = tokens(typed);
        const has = model.context ? `A conversation with it has ${model.context} tokens now. ` : "";
        const why = `${has}It is unloaded for everybody, and loaded with the new size.`;
        if (!(await isMeant(context, `Set the ctx-size of ${model.id} to ${size}?`, why))) return;
        const { was, note } = await server.setContext(model.id, size);
        say(context, [`${model.id}: ctx-size is ${size}${was ? `, and was ${was}` : ""}`, note].filter(Boolean).join("\n"));
        if (isInMemory(model)) await load(server, model.id, context);
        await provider.refresh();
      },
    },
    preset: {
      about: "Show the server's presets.ini",
      async run(_words, context) {
        tellUnused(server, context);
        say(context, await server.preset());
      },
    },
    restart: {
      about: "Restart the llama-servers of the host",
      async run(_words, context) {
        tellUnused(server, context);
        const why = "Every model is unloaded, and every answer that is being given ends.";
        if (!(await isMeant(context, "Restart the llama-servers?", why))) return;
        const units = await server.restart();
        await patiently(server, context, "waiting for the server", async () => (await server.isHealthy()) || undefined);
        await provider.refresh();
        say(context, `restarted: ${units.join(", ")}`);
      },
    },
  };
}

async function completions(server: Server, typed: string, offers?: (model: Model) => boolean) {
  if (!offers || /\s/.test(typed)) return null;
  try {
    const models = await server.models(Math.min(COMPLETION_MS, server.config.timeoutMs));
    const offered = models.filter((model) => model.hasPath && model.id.startsWith(typed) && offers(model));
    return offered.length ? offered.map((model) => ({ value: model.id, label: model.id, description: words(model) })) : null;
  } catch (error) {
    if (error instanceof Trouble) return null;
    throw error;
  }
}

function named(models: Model[], id: string | undefined, command: string, rest = ""): Model {
  const known = models.filter((model) => model.hasPath).map((model) => model.id);
  if (!id) throw new Trouble(`/ai-server-${command} ID${rest}: ID is one of ${known.join(", ")}`);
  const found = models.find((model) => model.id === id);
  if (!found) throw new Trouble(`the server has no model ${id}: it has ${known.join(", ")}`);
  if (!found.hasPath) throw new Trouble(`${id} has no model path in the server's presets: there is nothing to load`);
  return found;
}

/** `32768`, `32k` */
function tokens(typed: string | undefined): number {
  const found = /^(\d+)(k?)$/i.exec(typed ?? "");
  const size = found ? Number(found[1]) * (found[2] ? 1024 : 1) : 0;
  if (!Number.isSafeInteger(size) || size <= 0) throw new Trouble(`${typed ?? "nothing"} is no context in tokens, such as 32768 or 32k`);
  return size;
}

async function load(server: Server, id: string, context: ExtensionCommandContext): Promise<void> {
  await server.load(id);
  const now = await waited(server, context, id, "loading", isInMemory);
  say(context, `${id} is loaded${now.context ? `, with a context of ${now.context} tokens` : ""}`);
}

async function waited(
  server: Server,
  context: ExtensionCommandContext,
  id: string,
  doing: string,
  isDone: (model: Model) => boolean,
): Promise<Model> {
  return patiently(server, context, `${doing} ${id}`, async () => {
    const now = (await server.models()).find((model) => model.id === id);
    if (!now) throw new Trouble(`${id} has gone while it was ${doing}: the server's list has no such model now`);
    if (now.status === "failed") {
      throw new Trouble(`${id} does not load: its process ended with exit code ${now.exitCode ?? "?"}, and the server's journal has why`);
    }
    return isDone(now) ? now : undefined;
  });
}

/** Asks again until there is something, with the time so far in pi's footer. What is out of reach for a while may be starting. */
async function patiently<T>(
  server: Server,
  context: ExtensionCommandContext,
  doing: string,
  look: () => Promise<T | undefined>,
): Promise<T> {
  const began = Date.now();
  try {
    for (;;) {
      const found = await look();
      if (found !== undefined) return found;
      const waitedMs = Date.now() - began;
      if (waitedMs > server.config.timeoutMs) {
        const seconds = Math.round(waitedMs / 1000);
        throw new Trouble(`still ${doing} after ${seconds} s (AI_SERVER_TIMEOUT_MS): it goes on, and /ai-server-status says how far it is`);
      }
      if (context.hasUI) context.ui.setStatus("ai-server", `${doing} … ${Math.round(waitedMs / 1000)} s`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  } finally {
    if (context.hasUI) context.ui.setStatus("ai-server", undefined);
  }
}

async function isMeant(context: ExtensionCommandContext, question: string, consequence: string): Promise<boolean> {
  if (!context.hasUI) throw new Trouble(`${question} ${consequence} Nobody is here to confirm it: nothing was done`);
  const meant = await context.ui.confirm(question, consequence);
  if (!meant) say(context, "nothing was done");
  return meant;
}

function tellUnused(server: Server, context: ExtensionCommandContext): void {
  const { unused } = server.config;
  if (!unused.length) return;
  say(context, `${unused.join(" and ")}: not used, this goes through the admin endpoint of the site, without SSH`, "warning");
}

function table(models: Model[]): string {
  const rows = [["model", "status", "context"], ...models.map((model) => [model.id, words(model), String(model.context ?? "")])];
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map(([id, status, size]) => `${id.padEnd(widths[0])}  ${status.padEnd(widths[1])}  ${size}`.trimEnd()).join("\n");
}

function words(model: Model): string {
  return model.hasPath ? model.status : "[no model path]";
}

function say(context: ExtensionCommandContext, text: string, kind: "info" | "warning" | "error" = "info"): void {
  if (context.hasUI) context.ui.notify(text, kind);
  else (kind === "info" ? console.log : console.error)(text);
}
