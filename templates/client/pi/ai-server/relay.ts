// What lets pi's own streaming through where it cannot go itself: with a client certificate, or with a time limit of somebody's own.
// A listener on loopback for this process alone, with a key that nobody else knows; it lives as long as pi does.
import { randomBytes, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server as Listener, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Config } from "./config.ts";
import { inWords, open } from "./transport.ts";

/** Headers that are of one connection, or that this relay says itself. */
const OWN = ["authorization", "connection", "host", "keep-alive", "transfer-encoding", "upgrade"];

export interface Relay {
  url: string;
  key: string;
  close(): void;
}

export const isNeeded = (config: Config): boolean => !config.fault && (config.tls !== undefined || config.timed);

export async function relay(config: Config): Promise<Relay> {
  const key = randomBytes(32).toString("hex");
  const listener = createServer((request, response) => pass(config, key, request, response));
  await new Promise<void>((resolve, reject) => {
    listener.once("error", reject);
    listener.listen(0, "127.0.0.1", resolve);
  });
  listener.unref(); // pi ends when it is done, not when this is
  return { url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`, key, close: () => end(listener) };
}

function pass(config: Config, key: string, request: IncomingMessage, response: ServerResponse): void {
  if (!isSame(request.headers.authorization ?? "", `Bearer ${key}`)) return refuse(response, 401, "this is for pi alone");
  const headers = passedOn(request.headers);
  const onward = open(config, request.method ?? "GET", request.url ?? "/", headers, config.timeoutMs);
  onward.on("response", (answer) => {
    response.writeHead(answer.statusCode ?? 502, passedOn(answer.headers));
    answer.on("error", () => response.destroy());
    answer.pipe(response);
  });
  onward.on("error", (error) => (response.headersSent ? response.destroy() : refuse(response, 502, inWords(config, error))));
  response.on("close", () => onward.destroy()); // who asked has gone: the server need not go on
  request.pipe(onward);
}

function passedOn(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !OWN.includes(name)));
}

function isSame(given: string, wanted: string): boolean {
  return given.length === wanted.length && timingSafeEqual(Buffer.from(given, "latin1"), Buffer.from(wanted, "latin1"));
}

function refuse(response: ServerResponse, status: number, words: string): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify({ error: { message: words } }));
}

function end(listener: Listener): void {
  listener.close();
  listener.closeAllConnections();
}
