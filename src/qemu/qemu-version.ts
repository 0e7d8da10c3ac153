import { createHash } from 'node:crypto';
import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { isJsonObject } from './qmp-codec.ts';

/** What a QEMU program can do, as far as its argument plan depends on it. */
export interface QemuVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
  /** The versioned machine type behind `q35`, such as `pc-q35-7.2`: a later QEMU can take such a guest over. */
  readonly q35: string;
}

export interface QemuVersionDeps {
  /** Directory of the cache file `qemu-<hash>.json`; it must exist. */
  readonly stateDir: string;
  readonly signal?: AbortSignal;
}

/**
 * The version of the QEMU program at the absolute path `file`. Asked from the program once per path, mtime and size,
 * because running QEMU costs 20 ms and more on a VM's way up. Throws FailedPrecondition when it is missing or is no QEMU
 * with a q35 machine.
 */
export async function readQemuVersion(host: Host, file: string, deps: QemuVersionDeps): Promise<QemuVersion> {
  const { stateDir, signal } = deps;
  const options = signal === undefined ? {} : { signal };
  const real = await resolveLink(host, file, options);
  const info = host.inspect(real);
  if (info === undefined) throw missing(file);
  const key = `${cacheFormat} ${real} ${info.mtimeMs} ${info.size}`;
  const hash = createHash('sha256').update(file).digest('hex').slice(0, 16);
  const path = `${stateDir}/qemu-${hash}.json`;
  const kept = readCache(host, path);
  if (kept?.key === key) return kept.version;
  const version = await askQemu(host, real, file, options);
  host.replaceFile(path, `${JSON.stringify({ key, version })}\n`, 0o644);
  return version;
}

/** Parses the first line of `qemu-system-x86_64 -version`; undefined where it is none. */
export function parseVersion(text: string): Omit<QemuVersion, 'q35'> | undefined {
  const match = /^QEMU emulator version (\d+)\.(\d+)(?:\.(\d+))?/m.exec(text);
  if (match === null) return undefined;
  const [, major, minor, micro = '0'] = match;
  return { major: Number(major), minor: Number(minor), micro: Number(micro) };
}

/** Finds what `q35` stands for in `qemu-system-x86_64 -machine help`. */
export function parseQ35Alias(text: string): string | undefined {
  return /^q35\s.*\(alias of (pc-q35-[\w.]+)\)/m.exec(text)?.[1];
}

/** At least `major.minor`. */
export function isAtLeast(
  version: Pick<QemuVersion, 'major' | 'minor'>,
  major: number,
  minor: number,
): boolean {
  return version.major > major || (version.major === major && version.minor >= minor);
}

/** Raised when `QemuVersion` changes. */
const cacheFormat = '1';

type Options = { readonly signal?: AbortSignal };

async function askQemu(host: Host, real: string, file: string, options: Options): Promise<QemuVersion> {
  let versionText: string;
  let machineText: string;
  try {
    const [version, machine] = await Promise.all([
      host.exec(real, ['-version'], options),
      host.exec(real, ['-machine', 'help'], options),
    ]);
    versionText = version.stdout;
    machineText = machine.stdout;
  } catch (error) {
    if (options.signal?.aborted === true)
      throw VmError.from(options.signal.reason, `asking ${file} its version`);
    throw new VmError('FailedPrecondition', `${unusable(file)}: ${VmError.from(error).message}`, {
      cause: error,
    });
  }
  const version = parseVersion(versionText);
  const q35 = parseQ35Alias(machineText);
  if (version === undefined || q35 === undefined) {
    const lacks = version === undefined ? 'prints no QEMU version' : 'has no q35 machine';
    throw new VmError(
      'FailedPrecondition',
      `${unusable(file)}: it ${lacks}, name a qemu-system-x86_64 there`,
    );
  }
  return { ...version, q35 };
}

/** An update of the target leaves a link as it is, so it is the target that counts. */
async function resolveLink(host: Host, file: string, options: Options): Promise<string> {
  const info = host.inspect(file);
  if (info === undefined) throw missing(file);
  if (info.kind !== 'symlink') return file;
  const { stdout } = await host.exec('readlink', ['-f', '--', file], options);
  return stdout.replace(/\n$/, '');
}

function unusable(file: string): string {
  return `the program ${file} of config key "qemu" cannot be used`;
}

function missing(file: string): VmError {
  return new VmError(
    'FailedPrecondition',
    `${unusable(file)}: it does not exist; install the Debian package qemu-system-x86 or set "qemu" to where QEMU is`,
  );
}

/** Undefined where there is none or somebody damaged it: it is only a cache. */
function readCache(host: Host, path: string): { key: string; version: QemuVersion } | undefined {
  try {
    const value: unknown = JSON.parse(host.readText(path));
    if (!isJsonObject(value) || typeof value['key'] !== 'string' || !isJsonObject(value['version'])) {
      return undefined;
    }
    return value as { key: string; version: QemuVersion };
  } catch {
    return undefined;
  }
}
