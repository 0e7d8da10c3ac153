/** The screen of a VM with a graphics card: a picture with text on it, and VNC on a socket that only root reaches. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { inflateSync } from 'node:zlib';
import { execa } from 'execa';
import t from 'tap';
import { ExpectText } from '../support/expect-text.ts';
import { guest } from '../support/guest.ts';
import { ShimClient } from '../support/shim-client.ts';
import { vmctl } from '../support/vm-image.ts';

/** Protocol version, security type None, its result, and the server's words of itself (RFC 6143, 7.1 to 7.3). */
async function vncHandshake(
  socket: Socket,
): Promise<{ version: string; width: number; height: number; name: string }> {
  let bytes = Buffer.alloc(0);
  const read = async (length: number): Promise<Buffer> => {
    while (bytes.length < length) {
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      bytes = Buffer.concat([bytes, chunk]);
    }
    const head = bytes.subarray(0, length);
    bytes = bytes.subarray(length);
    return head;
  };
  const version = (await read(12)).toString('latin1');
  socket.write(version);
  const [count = 0] = await read(1);
  const types = await read(count);
  socket.write(Buffer.from([types.includes(1) ? 1 : 255]));
  if ((await read(4)).readUInt32BE() !== 0) throw new Error('VNC wants a password');
  socket.write(Buffer.from([1]));
  const init = await read(24);
  const name = (await read(init.readUInt32BE(20))).toString();
  socket.destroy();
  return { version, width: init.readUInt16BE(0), height: init.readUInt16BE(2), name };
}

/** Width, and how many different bytes are in the pixels (PNG, ISO 15948). */
function readPng(path: string): { width: number; colours: number } {
  const png = readFileSync(path);
  const parts: Buffer[] = [];
  for (let at = 8; at < png.length;) {
    const length = png.readUInt32BE(at);
    if (png.toString('latin1', at + 4, at + 8) === 'IDAT') parts.push(png.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  return { width: png.readUInt32BE(16), colours: new Set(inflateSync(Buffer.concat(parts))).size };
}

void t.test('a VM for Windows has a screen', async (t) => {
  const shims = await ShimClient.make(t);
  const env = { VMSHIM_CONFIG: join(shims.directory, 'vmshim.toml') };
  const run = (...args: string[]) => execa(vmctl, args, { env, reject: false, all: true });
  const annotations = {
    'vmshim.io/os': 'windows',
    'vmshim.io/cmdline': `${(await guest()).cmdline} console=tty0 console=ttyS0`,
  };
  const shim = await shims.shim('win', { annotations });
  const { id, task } = shim;
  const io = shims.io(id);
  await task.create({ id, bundle: shim.bundle, ...io.request });
  await task.start({ id });
  await io.console.until('vmguest: ready');

  await t.test('vmctl screenshot', async (t) => {
    const file = join(shims.directory, 'screen.png');
    // Twice at once: QEMU has one descriptor set for it.
    const shots = await Promise.all([run('screenshot', id, file), run('screenshot', id, `${file}.2`)]);
    t.match(shots, [{ exitCode: 0 }, { exitCode: 0 }], shots.map(({ all }) => all).join());
    for (const path of [file, `${file}.2`]) {
      const { width, colours } = readPng(path);
      t.ok(width >= 640);
      t.ok(colours > 2, `${colours} different bytes: something is written on it`);
      t.equal(statSync(path).mode & 0o777, 0o600);
    }
    t.match(await run('screenshot', id), { exitCode: 2, stderr: /one VM and one file/ });
  });

  await t.test('VNC on a unix socket, for several viewers', async (t) => {
    const path = (await run('vnc', id)).stdout;
    const { mode, uid } = statSync(path);
    t.same([mode & 0o777, uid], [0o600, 0]);
    const viewers = await Promise.all([vncHandshake(connect(path)), vncHandshake(connect(path))]);
    for (const viewer of viewers) t.match(viewer, { version: 'RFB 003.008\n', width: Number, name: /win/ });
    t.match((await run('status', id)).stdout, new RegExp(`^VNC +${path}$`, 'm'));
  });

  await t.test('vmctl vnc --port', async (t) => {
    const child = spawn(vmctl, ['vnc', id, '--port', '0'], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    const [, port] = await new ExpectText(child.stdout).until(/VNC on 127\.0\.0\.1:(\d+), end/);
    t.match(await vncHandshake(connect(Number(port), '127.0.0.1')), { version: 'RFB 003.008\n' });
    t.match(await run('vnc', id, '--port', String(port)), { exitCode: 1, stderr: /cannot listen on 127/ });
    const viewer = connect(Number(port), '127.0.0.1');
    await once(viewer, 'data');
    const left = once(viewer, 'close');
    child.kill('SIGINT');
    t.same(await ended, [0, null]);
    await left;
    t.match(await run('vnc', id, '--port', 'x'), { exitCode: 2, stderr: /--port "x" is no port/ });
  });
  await shims.remove(shim);
});

void t.test('a VM without a screen says so', async (t) => {
  const shims = await ShimClient.make(t);
  const env = { VMSHIM_CONFIG: join(shims.directory, 'vmshim.toml') };
  const shim = await shims.shim('plain');
  await shim.task.create({ id: 'plain', bundle: shim.bundle });
  for (const args of [
    ['screenshot', 'plain', join(shims.directory, 'none.png')],
    ['vnc', 'plain'],
  ]) {
    t.match(await execa(vmctl, args, { env, reject: false }), {
      exitCode: 1,
      stderr: /VM "plain" has no screen; create it with annotation vmshim.io\/video set to "std"/,
    });
  }
  await shims.remove(shim);
});
