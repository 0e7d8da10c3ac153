/**
 * A program in QEMU's place, for what the real one is too slow for under TCG (it takes 90 s to print 8 MiB) or cannot be
 * made to do at a given moment. It serves QMP on descriptor 3 and the serial console on 4, as the shim's plan says.
 *
 *     node stand-in-qemu.ts end|burst BYTES ...QEMU's own arguments
 *
 * `end` powers off together with the answer to `cont` and is gone. `burst` prints that many bytes, powers off and leaves
 * when told to quit.
 */
import { createServer, type Socket } from 'node:net';
import { burstBytes } from './burst-bytes.ts';

const [, , deed, count] = process.argv;
const line = (message: object): string => `${JSON.stringify(message)}\r\n`;
const event = (name: string, data?: object): string =>
  line({ event: name, data, timestamp: { seconds: Math.floor(Date.now() / 1000), microseconds: 0 } });
const powerOff = event('SHUTDOWN', { guest: true, reason: 'guest-shutdown' });
const greeting = {
  version: { qemu: { major: 7, minor: 2, micro: 22 }, package: 'stand-in' },
  capabilities: [],
};

const screen = Promise.withResolvers<Socket>();
createServer((socket) => screen.resolve(socket)).listen({ fd: 4 });

createServer((qmp) => {
  qmp.on('error', () => process.exit(0));
  qmp.write(line({ QMP: greeting }));
  let text = '';
  qmp.on('data', (chunk: Buffer) => {
    const lines = (text + chunk.toString()).split('\n');
    text = lines.pop() ?? '';
    for (const command of lines) answer(qmp, JSON.parse(command) as { execute: string; id: unknown });
  });
}).listen({ fd: 3 });

function answer(qmp: Socket, { execute, id }: { execute: string; id: unknown }): void {
  const done = line({ return: {}, id });
  if (execute === 'quit') qmp.write(done, () => process.exit(0));
  else if (execute !== 'cont') qmp.write(done);
  else if (deed === 'end') qmp.write(done + event('RESUME') + powerOff, () => process.exit(0));
  else {
    qmp.write(done + event('RESUME'));
    // The shim has connected to both sockets; which of them we hear of first is chance.
    void screen.promise.then((socket) => socket.write(burstBytes(Number(count)), () => qmp.write(powerOff)));
  }
}
