import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { basename, join, relative } from 'node:path';

const root = join(import.meta.dirname, '..');
const sources = ['vmshim.c', 'lock.h', 'loopback.h', 'network.h', 'readable.h', 'values.h'].map(
  (name) => `src/host/native/${name}`,
);
const compilerFlags = [
  '-shared',
  '-fPIC',
  '-O2',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-Wl,-z,relro,-z,now',
  '-Wl,--build-id=none',
  '-s',
  '-I',
  'node_modules/node-api-headers/include',
];

/** Where to build to and with what; the defaults are the repository's `dist/` and the system's `cc`. */
export interface AddonBuild {
  readonly outDir?: string;
  readonly compiler?: string;
}

/**
 * Builds `vmshim.node` unless the one there was made from the same sources with the same flags: the hash of both is
 * part of the file. The same input gives the same bytes. Safe to run several times at once. Throws an Error of one
 * sentence when there is no compiler or it refuses the source.
 *
 * @returns the addon's path, and whether it had to be built
 */
export function buildAddon(build: AddonBuild = {}): { path: string; built: boolean } {
  const outDir = build.outDir ?? join(root, 'dist');
  const path = join(outDir, 'vmshim.node');
  const hash = createHash('sha256').update(compilerFlags.join(' '));
  for (const source of sources) hash.update(readFileSync(join(root, source)));
  const sourceHash = hash.digest('hex');
  if (contains(path, sourceHash)) return { path, built: false };

  mkdirSync(outDir, { recursive: true });
  const temporary = join(outDir, `.${basename(path)}.${process.pid}`);
  try {
    compile(build.compiler ?? 'cc', [
      `-DSOURCE_HASH="${sourceHash}"`,
      'src/host/native/vmshim.c',
      '-o',
      temporary,
    ]);
    renameSync(temporary, path);
  } finally {
    rmSync(temporary, { force: true });
  }
  return { path, built: true };
}

function contains(path: string, text: string): boolean {
  try {
    return readFileSync(path).includes(text);
  } catch {
    return false;
  }
}

// Runs in the repository's root with relative source names, so that no machine's path gets into the file.
function compile(compiler: string, args: readonly string[]): void {
  const run = spawnSync(compiler, [...compilerFlags, ...args], { cwd: root, encoding: 'utf8' });
  const remedy = 'install the Debian packages gcc and libc6-dev';
  if (run.error !== undefined) {
    throw new Error(
      `Cannot build vmshim.node: the C compiler "${compiler}" does not run (${run.error.message}); ${remedy}.`,
    );
  }
  if (run.status === 0) return;
  const missing = /fatal error: (\S+): No such file/.exec(run.stderr)?.[1];
  if (missing !== undefined) {
    const what = missing === 'node_api.h' ? 'run npm ci (package node-api-headers)' : remedy;
    throw new Error(`Cannot build vmshim.node: the header ${missing} is missing; ${what}.`);
  }
  throw new Error(
    `Cannot build vmshim.node: "${compiler}" ended with status ${run.status ?? 'none'}: ${run.stderr.trim()}`,
  );
}

if (import.meta.main) {
  try {
    const { path, built } = buildAddon();
    if (built) console.log(`built ${relative(process.cwd(), path)}`);
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  }
}
