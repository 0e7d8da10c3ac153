import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { consoleOf, diagnoseNode, type NodeEyes } from './diagnose-node.ts';
import type { NodeDisks } from './disks.ts';
import { type NodeMode, type NodePort, type NodeShape, planNode } from './plan-node.ts';

/** A shell on our terminal. @returns the status to exit with. */
export async function nodeShell(shape: NodeShape, disks: NodeDisks): Promise<number> {
  const qemu = startQemu({ kind: 'shell' }, shape, disks, 'inherit');
  // Ctrl-C belongs to the shell inside.
  process.on('SIGINT', () => undefined);
  return (await qemu.ended) === 0 ? 0 : 1;
}

/** When a node has to end without a result. */
export interface NodeLimits {
  readonly signal: AbortSignal;
  /**
   * So many seconds without a word or a pulse of the job, the boot included, and the node has hung. It has a pulse of ten
   * seconds; a test that is silent is the job's to end.
   */
  readonly silence: number;
}

/** Where what is said in the node goes, in pieces of any size. */
export interface NodeOutput {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

/** The node had no pulse for as long as its limits say. */
export class NodeSilent extends Error {}

/**
 * Boots the node and runs the job that is on its disk. Ends the node at its limits, and leaves no process.
 *
 * @returns the job's exit status; the end of the node's console is in `err` when that is not 0
 * @throws NodeSilent, Error with the end of the node's console when it ends without one
 */
export async function runInNode(
  shape: NodeShape,
  disks: NodeDisks,
  limits: NodeLimits,
  { out, err }: NodeOutput,
): Promise<number> {
  await using undo = new AsyncDisposableStack();
  const hung = new AbortController();
  const silent = setTimeout(() => {
    hung.abort(new NodeSilent(`the node has said nothing for ${limits.silence} seconds`));
  }, limits.silence * 1000);
  undo.defer(() => clearTimeout(silent));
  const signal = AbortSignal.any([limits.signal, hung.signal]);

  /** What was on its way when the node ended. */
  const said: Promise<unknown>[] = [];
  const forward = (socket: Socket, to: (text: string) => void): void => {
    said.push(new Promise((resolve) => socket.on('close', resolve)));
    socket.setEncoding('utf8').on('data', (text: string) => {
      silent.refresh();
      to(text);
    });
  };
  let status = Promise.resolve('');
  const ports = [
    undo.use(await listen(disks, 'out', (socket) => forward(socket, out))).port,
    undo.use(await listen(disks, 'err', (socket) => forward(socket, err))).port,
    undo.use(await listen(disks, 'pulse', (socket) => void socket.on('data', () => silent.refresh()))).port,
    undo.use(await listen(disks, 'status', (socket) => void (status = text(socket)))).port,
  ];
  const eyes: NodeEyes = {
    monitor: join(disks.directory, 'monitor'),
    console: join(disks.directory, 'console'),
    consoleLog: join(disks.directory, 'console.log'),
  };
  const qemu = startQemu({ kind: 'run', ports, eyes }, shape, disks, 'ignore');
  // What is found needs the console's log, which goes with us.
  let diagnosis = Promise.resolve('');
  const end = (): void => {
    if (hung.signal.aborted) diagnosis = diagnoseNode(eyes).finally(qemu.kill);
    else qemu.kill();
  };
  signal.addEventListener('abort', end);
  undo.defer(async () => {
    signal.removeEventListener('abort', end);
    qemu.kill();
    await qemu.ended;
  });
  if (signal.aborted) end();

  const ended = await qemu.ended;
  const found = await diagnosis;
  await Promise.all(said);
  if (found !== '') err(`what there was to see of the silent node:\n${found}\n`);
  const lastWords = `the end of the node's console:\n${consoleOf(eyes.consoleLog).slice(-4000)}`;
  if (signal.aborted) {
    const Kind = signal.reason instanceof NodeSilent ? NodeSilent : Error;
    throw new Kind(`${reasonOf(signal)}; ${lastWords}`);
  }
  const answer = /^\d+$/.exec((await status).trim());
  if (ended !== 0 || answer === null) {
    throw new Error(`the node ended without a result (QEMU: ${ended}); ${lastWords}`);
  }
  if (answer[0] !== '0') err(`${lastWords}\n`);
  return Number(answer[0]);
}

function reasonOf({ reason }: AbortSignal): string {
  return reason instanceof Error ? reason.message : String(reason);
}

/** A socket for a port of the node. QEMU connects to it once, before the node runs, and hangs up when it ends. */
async function listen(
  { directory }: NodeDisks,
  name: string,
  onConnection: (socket: Socket) => void,
): Promise<Disposable & { readonly port: NodePort }> {
  const socket = join(directory, name);
  const server = createServer(onConnection).listen(socket);
  await once(server, 'listening');
  return { port: { name: `testbed.${name}`, socket }, [Symbol.dispose]: () => void server.close() };
}

interface RunningQemu {
  readonly kill: () => void;
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
  const command = ['--pdeathsig', 'KILL', ...files.qemu, ...planNode(mode, shape, files)];
  const child = spawn('setpriv', command, { stdio: [stdio, stdio, 'inherit'] });
  const ended = new Promise<number | string>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
  return { ended, kill: () => void child.kill('SIGKILL') };
}
