import type { ExpectText } from './expect-text.ts';

/** Something with a guest's console: a `ctr run`, an attached container. */
export interface GuestConsole {
  readonly console: ExpectText;
  type(line: string): void;
}

/** Types a line at the test guest's prompt and gives back what the pattern found in the answer. */
export async function ask(run: GuestConsole, line: string, answer: RegExp): Promise<string> {
  await run.console.until(/vmguest# $/);
  const from = run.console.text.length;
  run.type(line);
  // The console shows the line before the answer; the next prompt ends the answer.
  const [said] = await run.console.until(/\n[^]*vmguest# $/, from);
  const found = answer.exec(said)?.[0];
  if (found === undefined) throw new Error(`the guest said ${said} and not ${String(answer)}`);
  return found;
}
