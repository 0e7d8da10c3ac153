import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ensureNvram } from '../../../src/storage/nvram.ts';
import { planRootDisk } from '../../../src/storage/root-disk.ts';
import { tempDir } from '../../support/temp-dir.ts';
import { WatchedHost } from './support/watched-host.ts';

const place = { id: 'c1', namespace: 'default', nodeKey: 'ab'.repeat(32) };

void t.test('variables are copied once and kept', async (t) => {
  const host = new WatchedHost();
  const rootfs = tempDir(t);
  const template = join(tempDir(t), 'OVMF_VARS.fd');
  const bytes = Buffer.from(Array.from({ length: 5000 }, (_, i) => i % 251));
  writeFileSync(template, bytes);
  const plan = planRootDisk({ kind: 'container' }, { ...place, bundleRootfs: rootfs, dataDir: rootfs });
  {
    using nvram = await ensureNvram(host, plan, template);
    t.ok(readFileSync(plan.nvram).equals(bytes));
    t.equal(statSync(plan.nvram).mode & 0o777, 0o600);
    host.writeBytes(nvram.fd, 10, Buffer.from('boot entry'));
  }
  {
    using nvram = await ensureNvram(host, plan, template);
    t.equal(host.readBytes(nvram.fd, 10, 10).toString(), 'boot entry');
  }
  t.same(readdirSync(plan.state.path), ['nvram.fd']);
  t.equal(host.openFds.size, 0);

  writeFileSync(template, 'other firmware');
  const other = {
    kind: 'FailedPrecondition',
    message: /of 5000 bytes, but the template .* has 14; configure/,
  };
  await t.rejects(ensureNvram(host, plan, template), other);
  rmSync(plan.nvram);
  symlinkSync('/etc/passwd', plan.nvram);
  await t.rejects(ensureNvram(host, plan, template), {
    kind: 'FailedPrecondition',
    message: /are a symlink/,
  });
  t.equal(host.openFds.size, 0);
});

void t.test('a template has to be a file with contents', async (t) => {
  const host = new WatchedHost();
  const rootfs = tempDir(t);
  const plan = planRootDisk({ kind: 'container' }, { ...place, bundleRootfs: rootfs, dataDir: rootfs });
  const template = join(rootfs, 'vars');
  await t.rejects(ensureNvram(host, plan, template), { kind: 'NotFound', message: /vars/ });
  mkdirSync(template);
  await t.rejects(ensureNvram(host, plan, template), { kind: 'InvalidArgument', message: /is a directory/ });
  rmSync(template, { recursive: true });
  writeFileSync(template, '');
  await t.rejects(ensureNvram(host, plan, template), { kind: 'InvalidArgument', message: /of 0 bytes/ });
  t.same(readdirSync(rootfs), ['vars']);
});
