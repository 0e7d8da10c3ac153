import { existsSync, readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { QmpClient } from '../../src/qemu/qmp-client.ts';

/** Sockets of a node's QEMU, and the log of what came out of its console. */
export interface NodeEyes {
  readonly monitor: string;
  readonly console: string;
  readonly consoleLog: string;
}

/** The CPUs as the emulator has them: where they are, and what interrupts wait. */
const MONITOR_COMMANDS = ['info cpus', 'info registers -a', 'info lapic 1', 'info lapic 2', 'info irq'];
/** Of the kernel's SysRq (admin-guide/sysrq): say all on the console; backtraces of the CPUs, blocked tasks, timers, memory. */
const SYSRQ_KEYS = ['9', 'l', 'w', 'q', 'm', 'l'];

/** Lines of registers that say nothing of where a CPU is. */
const FLOATS = /^(?:FCW|FPR|MXCSR|XMM|YMM).*\r?\n/gm;

export interface Patience {
  /** For an answer to come out of an emulated serial port. */
  readonly answerMs: number;
  /** For QEMU, which may hang itself. */
  readonly monitorMs: number;
}

/**
 * What can be seen of a node that has fallen silent, in an order that disturbs it late: the CPUs' registers twice, what its
 * kernel says by SysRq, and where an NMI finds the CPUs, which ends it. Never throws: what cannot be asked is said.
 */
export async function diagnoseNode(
  { monitor, console, consoleLog }: NodeEyes,
  { answerMs, monitorMs }: Patience = { answerMs: 3000, monitorMs: 60_000 },
): Promise<string> {
  const found: string[] = [];
  const signal = AbortSignal.timeout(monitorMs);
  try {
    using qmp = await QmpClient.connect(monitor, { signal });
    const ask = async (line: string): Promise<void> => {
      const answer = await qmp.execute('human-monitor-command', { 'command-line': line }, { signal });
      found.push(`(qemu) ${line}\n${String(answer).replaceAll(FLOATS, '')}`);
    };
    for (const line of MONITOR_COMMANDS) await ask(line);
    await sleep(answerMs);
    await ask('info registers -a');

    const before = consoleOf(consoleLog).length;
    using undo = new DisposableStack();
    undo.defer(() => found.push(`its kernel:\n${consoleOf(consoleLog).slice(before)}`));
    const keys = createConnection(console).on('error', () => undefined);
    undo.defer(() => keys.destroy());
    keys.resume();
    for (const key of SYSRQ_KEYS) {
      await qmp.execute('chardev-send-break', { id: 'console' }, { signal });
      keys.write(key);
      await sleep(answerMs);
    }
    await qmp.execute('inject-nmi', undefined, { signal });
    await sleep(answerMs);
  } catch (error) {
    found.push(`no more can be asked: ${error instanceof Error ? error.message : String(error)}`);
  }
  return found.join('\n');
}

/** What came out of a node's console; nothing before QEMU has begun. */
export function consoleOf(log: string): string {
  return existsSync(log) ? readFileSync(log, 'utf8') : '';
}
