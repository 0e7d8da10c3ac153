import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { QemuLog } from '../../../src/qemu/qemu-log.ts';
import { watchServers } from '../../../src/vm/watch-servers.ts';
import { recordingLogger } from '../../support/recording-logger.ts';
import { tempDir } from '../../support/temp-dir.ts';

void t.test('a virtiofsd that ends is told of unless QEMU ends with it', async (t) => {
  const log = { tail: () => ['out of descriptors'], keepSmall: () => new DisposableStack() } as never;
  const forEver = new Promise<never>(() => undefined);
  const logger = recordingLogger();
  const server = (volume: string, ended: Promise<unknown>) => ({ volume, log, ended });
  const ended = Promise.resolve();
  const told = Promise.withResolvers<undefined>();
  const telling = { ...logger, error: () => told.resolve(undefined) };
  const lost = watchServers(telling, 'vm', [server('/data', ended), server('/web', forEver)], {
    exited: forEver,
  });
  const none = watchServers(logger, 'vm', [server('/data', ended)], { exited: ended });
  t.same(lost(), [], 'not at once: QEMU may end as well');
  await told.promise;
  t.same(lost(), [
    'the guest has lost a shared directory until it is started again: virtiofsd for the volume at "/data" ended: out of descriptors',
  ]);
  t.same(none(), []);
});

void t.test('what a guest makes it say is bounded for as long as it serves', async (t) => {
  const path = join(tempDir(t), 'shared-0.log');
  const complaints = 'a request that makes no sense\n'.repeat(100_000);
  writeFileSync(path, '');
  const log = new QemuLog(new LinuxHost(), path, 0);
  const qemu = Promise.withResolvers<undefined>();
  const forEver = new Promise<never>(() => undefined);
  watchServers(recordingLogger(), 'vm', [{ volume: '/data', log, ended: forEver }], { exited: qemu.promise });
  writeFileSync(path, complaints, { flag: 'a' });
  while (statSync(path).size > 100_000) await delay(10);
  qemu.resolve(undefined);
});
