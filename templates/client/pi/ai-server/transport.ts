// One request over http to the bridge, or over https with the client certificate to the site itself.
import * as http from "node:http";
import * as https from "node:https";
import type { Config } from "./config.ts";

/** What a person is told: one line that says what is wrong, and what to do. */
export class Trouble extends Error {}

export interface Answer {
  status: number;
  text: string;
}

type Headers = http.OutgoingHttpHeaders;

/** The request, not yet sent. `timeoutMs` is how long nothing may come. */
export function open(config: Config, method: string, path: string, headers: Headers, timeoutMs: number): http.ClientRequest {
  const authorization = config.key ? { authorization: `Bearer ${config.key}` } : {};
  const options = { method, headers: { ...headers, ...authorization }, timeout: timeoutMs };
  const request = config.tls
    ? https.request(config.url + path, { ...options, ...config.tls })
    : http.request(config.url + path, options);
  request.on("timeout", () => request.destroy(new TimedOut(timeoutMs)));
  return request;
}

export async function ask(config: Config, method: string, path: string, body?: object, timeoutMs = config.timeoutMs): Promise<Answer> {
  if (config.fault) throw new Trouble(config.fault);
  const data = body === undefined ? undefined : JSON.stringify(body);
  const headers = data === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(data) };
  try {
    return await new Promise<Answer>((resolve, reject) => {
      const request = open(config, method, path, { ...headers, "x-paddock-request": "1" }, timeoutMs);
      const whole = setTimeout(() => request.destroy(new TimedOut(timeoutMs)), timeoutMs);
      request.on("close", () => clearTimeout(whole));
      request.on("error", reject);
      request.on("response", (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("error", reject);
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString("utf8") }));
      });
      request.end(data);
    });
  } catch (error) {
    throw new Trouble(inWords(config, error as NodeJS.ErrnoException));
  }
}

export function inWords(config: Config, error: NodeJS.ErrnoException): string {
  const who = config.tls ? config.url : `the bridge at ${config.url}`;
  if (error instanceof TimedOut) return `${who} gave no answer within ${error.seconds} s (AI_SERVER_TIMEOUT_MS is how long is waited)`;
  if (error.code === "ECONNREFUSED") {
    return `nothing answers at ${config.url}: ${config.tls ? "is the server up?" : "is the bridge of this account running?"}`;
  }
  if (error.code === "ENOTFOUND" || error.code === "EAI_AGAIN") return `${config.url}: there is no such host (${error.code})`;
  if (config.tls && (error.code === "ECONNRESET" || error.code?.includes("ALERT"))) {
    return `${config.url} does not let this client certificate in (${error.code}): it may be revoked, expired or another fleet's`;
  }
  return `${who} cannot be asked: ${error.message}`;
}

class TimedOut extends Error {
  readonly seconds: number;

  constructor(timeoutMs: number) {
    super("timed out");
    this.seconds = Math.ceil(timeoutMs / 1000);
  }
}
