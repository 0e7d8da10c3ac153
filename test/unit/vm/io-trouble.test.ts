import t from 'tap';
import { addIoError, describeTrouble, type IoErrorEvent } from '../../../src/vm/io-trouble.ts';

void t.test('trouble is told by the name that the pod gave the disk', (t) => {
  const event = {
    name: 'BLOCK_IO_ERROR',
    device: '',
    operation: 'write',
    action: 'stop',
    noSpace: false,
    reason: 'Input/output error',
    at: 1,
  } as const;
  for (const [nodeName, disk] of [
    ['volume-db', 'db'],
    ['volume-volume-root', 'volume-root'],
    ['root', 'root'],
  ]) {
    const told: IoErrorEvent = { ...event, nodeName: nodeName ?? '' };
    t.equal(
      describeTrouble(addIoError(undefined, told)),
      `disk "${disk}" cannot be written: Input/output error`,
    );
  }
  t.end();
});
