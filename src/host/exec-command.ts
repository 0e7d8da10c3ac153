import { existsSync } from 'node:fs';
import { VmError } from '../core/errors.ts';
import type { ExecOptions, ExecResult } from './host.ts';
import { errnoName, toVmError } from './linux-errno.ts';

const commandPath = '/usr/sbin:/usr/bin:/sbin:/bin';
const defaultMaxOutput = 4 << 20;
/** Of stderr only the end is kept: that is where commands say why they failed. */
const maxErrorOutput = 64 << 10;

/**
 * Runs a command to its end, found in the system's own directories, with PATH, `LC_ALL=C` and `env` as its whole
 * environment. Throws NotFound when there is no such command, Internal when it ends with another status than 0 and
 * `anyStatus` does not allow that, ResourceExhausted when it says more than `maxOutput`, and what the signal's reason means
 * when that is aborted; the command has ended in every case.
 */
export async function execCommand(
  file: string,
  args: readonly string[],
  options: ExecOptions = {},
): Promise<ExecResult> {
  const { signal, input, cwd, env, fds = [], anyStatus = false, maxOutput = defaultMaxOutput } = options;
  const command = [file, ...args].join(' ');
  if (signal?.aborted === true) throw VmError.from(signal.reason, command);

  // Loaded when needed, as in spawn-process.ts.
  const { spawn } = process.getBuiltinModule('node:child_process');
  const child = spawn(file, args, {
    cwd,
    env: { PATH: commandPath, LC_ALL: 'C', ...env },
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe', ...fds],
  });
  const stdout: Buffer[] = [];
  let stdoutLength = 0;
  let stderr = Buffer.alloc(0);
  let stopped: VmError | undefined;

  const stop = (error: VmError): void => {
    stopped ??= error;
    child.kill('SIGKILL');
    // A grandchild may hold the pipes open; we do not wait for it.
    child.stdout?.destroy();
    child.stderr?.destroy();
  };
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout.push(chunk);
    stdoutLength += chunk.length;
    if (stdoutLength > maxOutput) {
      stop(new VmError('ResourceExhausted', `${shorten(command)} said more than ${maxOutput} bytes`));
    }
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = Buffer.concat([stderr, chunk]).subarray(-maxErrorOutput);
  });
  // A command may end without reading its input; its status tells whether that was a fault.
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(input);

  const onAbort = (): void => stop(VmError.from(signal?.reason, shorten(command)));
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    const end = await new Promise<number | string>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signalName) => resolve(code ?? signalName ?? 'unknown'));
    });
    if (stopped !== undefined) throw stopped;
    if (end !== 0 && !(anyStatus && typeof end === 'number')) {
      throw new VmError('Internal', failure(command, end, stderr.toString()));
    }
    const status = typeof end === 'number' ? end : 0;
    return { status, stdout: Buffer.concat(stdout).toString(), stderr: stderr.toString() };
  } catch (error) {
    if (errnoName(error) === 'ENOENT' && (cwd === undefined || existsSync(cwd))) {
      const absent = file.includes('/')
        ? `${file}, or what its first line says it is run by, does not exist; install it`
        : `the command ${file} is not in ${commandPath}; install it`;
      throw new VmError('NotFound', absent, { cause: error });
    }
    throw toVmError(error, `run ${shorten(command)}${cwd === undefined ? '' : ` in ${cwd}`}`);
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

function failure(command: string, end: number | string, stderr: string): string {
  const how = typeof end === 'number' ? `status ${end}` : end;
  const lines = stderr.split('\n').map((line) => line.trim());
  const said = lines.filter((line) => line !== '').slice(-3);
  return `${shorten(command)} ended with ${how}${said.length === 0 ? '' : `: ${shorten(said.join('; '), 600)}`}`;
}

function shorten(text: string, length = 200): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}
