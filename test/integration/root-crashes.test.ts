/**
 * A shim is killed before every single step of making a root disk, and the next one goes on from there: on a block device
 * and with an overlay over a copied base. What the guest then reads is the image, and QEMU finds the files sound.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LoopDevice } from '../support/loop-device.ts';
import { tempDir, type Teardown } from '../support/temp-dir.ts';

const MIB = 2 ** 20;
/** More than two pieces of 8 MiB. */
const IMAGE_BYTES = 20 * MIB;
const PROGRAM = join(import.meta.dirname, '../support/prepare-root.ts');
/** Pieces of the image that are not zero, by their place in MiB. */
const PATTERN: ReadonlyMap<number, number> = new Map([
  [0, 0x11],
  [7, 0x22],
  [8, 0x33],
  [19, 0x44],
]);
const NEVER = 1_000_000;

/** Runs a shim's part up to its death; the number of its steps when it came to the end. */
function prepare(args: readonly string[], killAt: number): number | undefined {
  const { signal, status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...args, String(killAt)], {
    encoding: 'utf8',
  });
  if (signal === 'SIGKILL') return undefined;
  if (status !== 0) throw new Error(`step ${killAt}: ${stderr}`);
  return Number(stdout);
}

function image(t: Teardown): string {
  const rootfs = tempDir(t);
  const disk = join(rootfs, 'disk', 'base.qcow2');
  mkdirSync(join(rootfs, 'disk'));
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', disk, String(IMAGE_BYTES)]);
  qemuIo(['-f', 'qcow2', disk], write(PATTERN));
  return rootfs;
}

const write = (pattern: ReadonlyMap<number, number>): string[] =>
  [...pattern].map(([at, byte]) => `write -q -P ${byte} ${at}M 1M`);
const verify = (pattern: ReadonlyMap<number, number>): string[] =>
  [...pattern].map(([at, byte]) => `read -P ${byte} ${at}M 1M`);

function qemuIo(disk: readonly string[], commands: readonly string[]): string {
  return execFileSync('qemu-io', [...commands.flatMap((command) => ['-c', command]), ...disk], {
    encoding: 'utf8',
  });
}

const intact = /verification failed|error/i;

void t.test('on a block device', (t) => {
  const rootfs = image(t);
  // What a volume held before, between its blank ends.
  const device = new LoopDevice(t, IMAGE_BYTES + 8 * MIB);
  const { major, minor } = device.number;
  const args = [rootfs, '', `${major}:${minor}`, '0'];
  const clear = (): void => {
    qemuIo(['-f', 'raw', device.node], ['write -q -P 0 0 1M', `write -q -P 0xee 1M ${IMAGE_BYTES}`]);
  };
  clear();
  const steps = prepare(args, NEVER) ?? 0;
  t.ok(steps > 12, `${steps} steps`);
  const guest = [
    '--image-opts',
    `driver=raw,offset=${MIB},file.driver=host_device,file.filename=${device.node}`,
  ];
  const zeros = new Map([
    [1, 0],
    [12, 0],
  ]);
  const check = (what: string): void => {
    t.notMatch(qemuIo(guest, verify(new Map([...PATTERN, ...zeros]))), intact, what);
  };
  check('filled at once');
  qemuIo(guest, ['write -q -P 0x77 5M 1M']);
  t.equal(prepare(args, NEVER), 0, 'a filled one is not touched again');
  t.notMatch(qemuIo(guest, ['read -P 0x77 5M 1M']), intact, 'the guest’s writes are there');

  for (let step = 0; step < steps; step++) {
    clear();
    t.equal(prepare(args, step), undefined, `killed before step ${step}`);
    for (let again = 0; prepareAfterOrphan(args) === undefined; again++)
      if (again > 9) throw new Error('busy');
    check(`killed before step ${step}`);
  }
  t.end();
});

/** A qemu-img that outlived its shim keeps the device claimed until it is done. */
function prepareAfterOrphan(args: readonly string[]): number | undefined {
  try {
    return prepare(args, NEVER);
  } catch (error) {
    if (!/is in use/.test(String(error))) throw error;
    execFileSync('sleep', ['0.1']);
    return undefined;
  }
}

void t.test('with an overlay', (t) => {
  const rootfs = image(t);
  const args = (dataDir: string, bytes = IMAGE_BYTES): string[] => [rootfs, dataDir, 'pod', String(bytes)];
  const check = (dataDir: string, bytes: number, what: string): void => {
    const overlay = join(dataDir, 'pods/uid/vm/root.qcow2');
    // The draft of a shim that died is garbage collection's.
    const bases = readdirSync(join(dataDir, 'bases')).filter((name) => !name.endsWith('.new'));
    t.equal(bases.length, 1, `${what}: one base`);
    const base = join(dataDir, 'bases', bases[0] ?? '');
    t.ok(
      readFileSync(base).equals(readFileSync(join(rootfs, 'disk/base.qcow2'))),
      `${what}: the base is whole`,
    );
    t.same(readdirSync(join(dataDir, 'pods/uid/vm')), ['root.qcow2']);
    const file = (filename: string): object => ({ driver: 'qcow2', file: { driver: 'file', filename } });
    const disk = { ...file(overlay), backing: { ...file(base), backing: null } };
    t.notMatch(qemuIo([`json:${JSON.stringify(disk)}`], verify(PATTERN)), intact, what);
    const alone = `json:${JSON.stringify({ ...file(overlay), backing: null })}`;
    t.match(execFileSync('qemu-img', ['check', alone], { encoding: 'utf8' }), 'No errors', what);
    const info = execFileSync('qemu-img', ['info', '--output=json', alone], { encoding: 'utf8' });
    t.match(JSON.parse(info), { 'virtual-size': bytes }, what);
  };
  const dataDir = tempDir(t);
  const steps = prepare(args(dataDir), NEVER) ?? 0;
  t.ok(steps > 10, `${steps} steps`);
  check(dataDir, IMAGE_BYTES, 'made at once');
  for (let step = 0; step < steps; step++) {
    const other = tempDir(t);
    t.equal(prepare(args(other), step), undefined, `killed before step ${step}`);
    prepare(args(other), NEVER);
    check(other, IMAGE_BYTES, `killed before step ${step}`);
  }
  const grown = (prepare(args(dataDir, IMAGE_BYTES + MIB), NEVER) ?? 0) - 1;
  for (let step = 0; step <= grown; step++) {
    const bytes = IMAGE_BYTES + (step + 2) * MIB;
    prepare(args(dataDir, bytes), step);
    prepare(args(dataDir, bytes), NEVER);
    check(dataDir, bytes, `killed before step ${step} of growing`);
  }
  t.end();
});

void t.test('the first mark is cut off', (t) => {
  const rootfs = image(t);
  const device = new LoopDevice(t, IMAGE_BYTES + 8 * MIB);
  const { major, minor } = device.number;
  const args = [rootfs, '', `${major}:${minor}`, '0'];
  prepare(args, 1);
  const head = readFileSync(device.file).subarray(0, 4096);
  t.ok(head.includes('vmshim root disk'), 'there is half a mark');
  writeFileSync(join(rootfs, 'x'), '');
  t.ok(prepareAfterOrphan(args), 'which is no data of anybody’s');
  t.end();
});
