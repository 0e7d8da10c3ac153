import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { NodeDisks } from './disks.ts';
import { type NodeMode, type NodePort, type NodeShape, planNode } from './plan-node.ts';

/** A shell on our terminal. @returns the status to exit with. */
export async function nodeShell(shape: NodeShape, disks: NodeDisks): Promise<number> {
  const qemu = startQemu({ kind: 'shell' }, shape, disks, 'inherit');
  // Ctrl-C belongs to the shell inside.
  process.on('SIGINT', () => undefined);
  return (await qemu.ended) === 0 ? 0 : 1;
}

/**
 * Boots the node and runs the job that is on its disk: its stdout and stderr become ours. Ends the node when `signal`
 * aborts, and leaves no process.
 *
 * @returns the job's exit status
 * @throws Error with the end of the node's console when it ends without one
 */
export async function runInNode(shape: NodeShape, disks: NodeDisks, signal: AbortSignal): Promise<number> {
  await using undo = new AsyncDisposableStack();
  const listen = async (name: string): Promise<{ port: NodePort; connected: Promise<Socket> }> => {
    const server = createServer();
    const socket = join(disks.directory, name);
    const connected = once(server, 'connection').then(([peer]) => peer as Socket);
    server.listen(socket);
    await once(server, 'listening');
    undo.defer(() => void server.close());
    return { port: { name: `testbed.${name}`, socket }, connected };
  };
  const [out, err, status] = [await listen('out'), await listen('err'), await listen('status')];
  const consoleLog = join(disks.directory, 'console.log');
  const ports = [out.port, err.port, status.port];
  const qemu = startQemu({ kind: 'run', ports, consoleLog }, shape, disks, 'ignore');
  const kill = (): void => qemu.kill();
  signal.addEventListener('abort', kill);
  undo.defer(() => signal.removeEventListener('abort', kill));
  undo.defer(async () => {
    qemu.kill();
    await qemu.ended;
  });
  if (signal.aborted) kill();

  void out.connected.then((socket) => socket.pipe(process.stdout, { end: false }));
  void err.connected.then((socket) => socket.pipe(process.stderr, { end: false }));
  const said = status.connected.then(text);
  const ended = await qemu.ended;
  signal.throwIfAborted();
  const answer = /^\d+$/.exec((await Promise.race([said, ''])).trim());
  if (ended === 0 && answer !== null) return Number(answer[0]);
  const console = readFileSync(consoleLog, 'utf8').slice(-4000);
  throw new Error(`the node ended without a result (QEMU's status ${ended}); its console:\n${console}`);
}

interface RunningQemu {
  kill(): void;
  /** Exit status, or the name of the signal that ended it. */
  readonly ended: Promise<number | string>;
}

function startQemu(
  mode: NodeMode,
  shape: NodeShape,
  { files }: NodeDisks,
  stdio: 'inherit' | 'ignore',
): RunningQemu {
  // Should we be killed ourselves, the kernel ends QEMU.
  const command = ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...planNode(mode, shape, files)];
  const child = spawn('setpriv', command, { stdio: [stdio, stdio, 'inherit'] });
  const ended = new Promise<number | string>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
  return { ended, kill: () => void child.kill('SIGKILL') };
}
