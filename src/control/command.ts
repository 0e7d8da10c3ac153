import { type ParseArgsConfig, parseArgs } from 'node:util';
import type { Config } from '../core/config.ts';
import type { LinuxHost } from '../host/linux-host.ts';

/** One word after `vmctl`. Help and completion are made from the same data. */
export interface Command {
  readonly name: string;
  /** After `vmctl NAME`, such as `VM [--json]`. */
  readonly usage: string;
  readonly summary: string;
  /** Paragraphs and examples of `vmctl help NAME`. */
  readonly details: string;
  readonly options: readonly OptionHelp[];
  /** What its first word may be, if that is one of a few; for completion. */
  readonly words?: readonly string[];
  /** Whether its first word names a VM, for completion. */
  readonly takesVm: boolean;
  /** @returns the exit status. */
  run(args: readonly string[], context: CommandContext): Promise<number>;
}

export interface OptionHelp {
  /** Such as `--namespace NS`. */
  readonly flag: string;
  readonly text: string;
}

export interface CommandContext {
  readonly host: LinuxHost;
  readonly config: () => Config;
  /** Aborts at Ctrl-C. */
  readonly signal: AbortSignal;
  readonly print: (text: string) => void;
  readonly commands: readonly Command[];
}

/** A command line that cannot be meant; exit status 2. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}

/** Node's own parser with our error class. @throws UsageError. */
export function parseCommandLine<T extends NonNullable<ParseArgsConfig['options']>>(
  args: readonly string[],
  options: T,
) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (error) {
    // Node's sentences name the option; what follows the first one explains how to quote.
    throw new UsageError(error instanceof Error ? (error.message.split('. ')[0] ?? '') : String(error));
  }
}
