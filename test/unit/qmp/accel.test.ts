import { chmodSync, chownSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import type { Host } from '../../../src/host/host.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { type AccelVerdict, detectAccel } from '../../../src/qemu/accel.ts';
import { tempDir } from '../../support/temp-dir.ts';

const intel = 'flags\t\t: fpu vme vmx ssse3 hypervisor\nvmx flags\t: vnmi ept\nbugs\t\t: spectre_v1\n';
const amd = 'flags\t\t: fpu lahf_lm svm svm_lock npt\nbugs\t\t:\n';
const plain = 'flags\t\t: fpu lahf_lm svm_lock vmxoff hypervisor\nvmx flags\t: vmx svm\nbugs\t\t: vmx svm\n';

interface Shape {
  /** Lines of one CPU after its `processor` line. */
  readonly cpu?: string;
  readonly modules?: readonly string[];
  /** Mode and group of /dev/kvm; absent without. */
  readonly kvm?: { readonly mode: number; readonly gid: number };
}

const worksOnIntel: Shape = { cpu: intel, modules: ['kvm', 'kvm_intel'], kvm: { mode: 0o660, gid: 104 } };
const works: Shape = { cpu: amd, modules: ['kvm', 'kvm_amd'], kvm: { mode: 0o660, gid: 104 } };

/** A host with this shape in a temporary tree, and what it was asked. */
class ShapedHost extends LinuxHost {
  readonly root: string;
  readonly deps: { readonly root: string; readonly stateDir: string };
  readonly opened: string[] = [];
  readonly commands: string[] = [];
  bytesRead = 0;
  /** Paths that refuse to open, as a device cgroup makes them. */
  readonly closed = new Set<string>();

  constructor(t: Test, shape: Shape) {
    super();
    this.root = tempDir(t);
    this.deps = { root: this.root, stateDir: join(this.root, 'state') };
    const { cpu, modules = [], kvm } = shape;
    const cpus = Array.from(
      { length: 512 },
      (_, i) => `processor\t: ${i}\n${cpu ?? plain}power management:\n\n`,
    );
    this.put('proc/cpuinfo', cpus.join(''));
    this.put('proc/sys/kernel/random/boot_id', 'boot-1\n');
    for (const name of modules) mkdirSync(join(this.root, 'sys/module', name), { recursive: true });
    mkdirSync(this.deps.stateDir);
    if (kvm !== undefined) this.putKvm(kvm.mode, kvm.gid);
  }

  put(path: string, text: string): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    writeFileSync(join(this.root, path), text);
  }

  putKvm(mode: number, gid: number): void {
    this.put('dev/kvm', '');
    chownSync(join(this.root, 'dev/kvm'), 0, gid);
    chmodSync(join(this.root, 'dev/kvm'), mode);
  }

  override open(...args: Parameters<Host['open']>): ReturnType<Host['open']> {
    this.opened.push(args[0].slice(this.root.length));
    if (this.closed.has(args[0]))
      throw new VmError('PermissionDenied', `cannot open ${args[0]}: not permitted`);
    return super.open(...args);
  }

  override readBytes(...args: Parameters<Host['readBytes']>): Buffer {
    const bytes = super.readBytes(...args);
    this.bytesRead += bytes.length;
    return bytes;
  }

  override exec(...args: Parameters<Host['exec']>): ReturnType<Host['exec']> {
    this.commands.push(args[0]);
    return super.exec(...args);
  }

  detect(choice: 'auto' | 'kvm' | 'tcg'): Promise<AccelVerdict> {
    return detectAccel(this, choice, this.deps);
  }
}

void t.test('auto takes KVM where it runs ordinary kernels for an unprivileged QEMU', async (t) => {
  const table: [string, Shape, number | undefined][] = [
    ['Intel, Debian’s 0660 root:kvm', worksOnIntel, 104],
    ['AMD, also nested', works, 104],
    ['systemd’s default 0666', { ...works, kvm: { mode: 0o666, gid: 104 } }, undefined],
    ['idle module of the other maker built in', { ...works, modules: ['kvm_intel', 'kvm_amd'] }, 104],
    ['a very long flags line', { ...works, cpu: `flags : ${'flag '.repeat(3000)}svm\n` }, 104],
  ];
  for (const [name, shape, kvmGid] of table) {
    const host = new ShapedHost(t, shape);
    const expected = { accel: 'kvm', reason: 'KVM works on this host', warn: false, kvmGid };
    t.same(await host.detect('auto'), expected, name);
    t.same(await host.detect('kvm'), expected, `${name}, asked for`);
    t.ok(host.bytesRead < 32_768, 'cpuinfo is not read to its end');
  }
});

void t.test('auto takes TCG elsewhere and says why', async (t) => {
  const table: [string, Shape, RegExp][] = [
    [
      'no virtualization',
      { ...works, cpu: plain, modules: [] },
      /neither vmx nor svm: switch virtualization on/,
    ],
    [
      'names like those in other lines',
      { ...works, cpu: `vmx flags : svm\n${plain}` },
      /neither vmx nor svm/,
    ],
    ['flags but PVM drives /dev/kvm', { ...works, modules: ['kvm', 'kvm_pvm'] }, /kvm_pvm module/],
    [
      'PVM as on our test machines',
      { cpu: plain, modules: ['kvm', 'kvm_pvm'], kvm: { mode: 0o600, gid: 0 } },
      /kvm_pvm/,
    ],
    ['Intel module missing', { ...worksOnIntel, modules: ['kvm'] }, /run "modprobe kvm_intel"/],
    ['the other maker’s module only', { ...works, modules: ['kvm_intel'] }, /run "modprobe kvm_amd"/],
    ['no device', { cpu: amd, modules: ['kvm_amd'] }, /\/dev\/kvm does not exist: .*modprobe kvm_amd/],
    ['root’s device', { ...works, kvm: { mode: 0o600, gid: 104 } }, /for root only.*chgrp kvm/],
    ['root’s group', { ...works, kvm: { mode: 0o660, gid: 0 } }, /for root only/],
    ['read-only for the group', { ...works, kvm: { mode: 0o640, gid: 104 } }, /for root only/],
    ['arm64', { ...works, cpu: 'BogoMIPS : 50.00\nFeatures : fp asimd svm\n' }, /not x86/],
  ];
  for (const [name, shape, why] of table) {
    const verdict = await new ShapedHost(t, shape).detect('auto');
    t.match(verdict, { accel: 'tcg', warn: true, kvmGid: undefined }, name);
    t.match(verdict.reason, /^using TCG emulation because /, name);
    t.match(verdict.reason, why, name);
  }
});

void t.test('a device that does not open', async (t) => {
  const host = new ShapedHost(t, works);
  host.closed.add(join(host.root, 'dev/kvm'));
  t.match(await host.detect('auto'), {
    accel: 'tcg',
    warn: true,
    reason: /\/dev\/kvm does not open \(.*not permitted\)/,
  });
  await t.rejects(host.detect('kvm'), /accel "kvm" cannot be used: .*not permitted.*set accel to "auto"/);
  host.closed.clear();
  t.match(await host.detect('auto'), { accel: 'kvm' }, 'that is not kept');
});

void t.test('kvm insists while the device opens, with a warning', async (t) => {
  const table: [Shape, number | undefined][] = [
    [{ ...works, cpu: plain }, 104],
    [{ cpu: plain, modules: ['kvm', 'kvm_pvm'], kvm: { mode: 0o600, gid: 0 } }, undefined],
    [{ ...works, kvm: { mode: 0o660, gid: 0 } }, undefined],
    [{ ...works, kvm: { mode: 0o600, gid: 104 } }, undefined],
    [{ ...works, modules: [], kvm: { mode: 0o666, gid: 0 } }, undefined],
  ];
  for (const [shape, kvmGid] of table) {
    const verdict = await new ShapedHost(t, shape).detect('kvm');
    t.match(verdict, { accel: 'kvm', warn: true, reason: /^using KVM because accel "kvm" insists, though / });
    t.equal(verdict.kvmGid, kvmGid);
  }
  const without = new ShapedHost(t, { cpu: amd, modules: ['kvm_amd'] });
  const error: unknown = await without.detect('kvm').catch((error: unknown) => error);
  t.ok(VmError.is(error, 'FailedPrecondition'));
  t.match(error, { message: /accel "kvm" cannot be used: \/dev\/kvm does not exist/ });
});

void t.test('tcg looks at nothing', async (t) => {
  const host = new ShapedHost(t, works);
  rmSync(host.root, { recursive: true });
  t.match(await host.detect('tcg'), { accel: 'tcg', warn: false, kvmGid: undefined });
  t.same([host.opened, host.commands], [[], []]);
});

void t.test('facts are kept for the boot, until the host shows a change', async (t) => {
  const host = new ShapedHost(t, works);
  const looked = async (): Promise<boolean> => {
    const before = host.opened.length;
    await host.detect('auto');
    return host.opened.length > before;
  };
  t.ok(await looked(), 'first');
  t.notOk(await looked(), 'second');
  t.same(host.commands, ['stat']);
  const cache = join(host.deps.stateDir, 'accel.json');
  t.match(JSON.parse(readFileSync(cache, 'utf8')), { facts: { cpu: 'svm' } });

  host.put('proc/sys/kernel/random/boot_id', 'boot-2\n');
  t.ok(await looked(), 'another boot');
  chmodSync(join(host.root, 'dev/kvm'), 0o600);
  t.match(await host.detect('auto'), { accel: 'tcg' }, 'another mode');
  chmodSync(join(host.root, 'dev/kvm'), 0o660);
  t.match(await host.detect('auto'), { accel: 'kvm' }, 'the remedy takes effect');
  chownSync(join(host.root, 'dev/kvm'), 0, 0);
  writeFileSync(cache, '');
  t.match(await host.detect('auto'), { accel: 'tcg' }, 'root’s group');
  chownSync(join(host.root, 'dev/kvm'), 0, 104);
  t.match(await host.detect('auto'), { accel: 'kvm', kvmGid: 104 }, 'chgrp alone takes effect too');
  rmSync(join(host.root, 'sys/module/kvm_amd'), { recursive: true });
  t.match(await host.detect('auto'), { accel: 'tcg' }, 'module unloaded');
  for (const damage of ['', '{', 'null', '{"key": 1}', '{"key": "1 boot-2"}']) {
    writeFileSync(cache, damage);
    t.ok(await looked(), `damaged by ${damage}`);
    t.notOk(await looked());
  }
});

void t.test('this very host gets a verdict that its own files bear out', async (t) => {
  const stateDir = tempDir(t);
  const host = new LinuxHost();
  const verdict = await detectAccel(host, 'auto', { stateDir });
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.split(' ') ?? [];
  const hasVirtualization = flags.includes('vmx') || flags.includes('svm');
  const hasPvm = host.inspect('/sys/module/kvm_pvm') !== undefined;
  if (!hasVirtualization || hasPvm) t.equal(verdict.accel, 'tcg');
  else t.equal(verdict.warn, verdict.accel === 'tcg');
  t.same(await detectAccel(host, 'auto', { stateDir }), verdict, 'and again from the cache');
});
