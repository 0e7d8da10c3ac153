import t from 'tap';
import { watchServers } from '../../../src/vm/watch-servers.ts';
import { recordingLogger } from '../../support/recording-logger.ts';

void t.test('a virtiofsd that ends is told of unless QEMU ends with it', async (t) => {
  const log = { tail: () => ['out of descriptors'] } as never;
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
