/** Nothing is logged unless PI_DEBUG asks for it. */
export function debug(words: string): void {
  if (process.env.PI_DEBUG) console.error(`[ai-server] ${words}`);
}
