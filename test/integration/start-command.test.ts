import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { containerd } from '#wire';
import { processEnded, type RunningShim, ShimClient } from '../support/shim-client.ts';

/** One length-delimited protobuf field, by hand: the codec that is under test reads what others wrote. */
function field(number: number, value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value as Uint8Array);
  const length = bytes.length < 128 ? [bytes.length] : [(bytes.length & 127) | 128, bytes.length >> 7];
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), bytes]);
}

/** google.protobuf.Any of the runtime options. */
const options = (fields: Uint8Array): Buffer =>
  Buffer.concat([field(1, 'runtimeoptions.v1.Options'), field(2, fields)]);

const configOf = (shims: ShimClient, lines = ''): string =>
  `accel = 'tcg'\nstate_dir = '${shims.directory}/vms'\ndata_dir = '${shims.directory}/data'\n${lines}`;

/** What containerd 2.3 sends: DEBUG is -4, a varint of ten bytes. */
function bootstrap(shims: ShimClient, id: string, extra: readonly Buffer[] = []): Buffer {
  return Buffer.concat([
    field(1, id),
    field(2, shims.namespace),
    Buffer.from([0x18, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
    field(4, 'v2.3.4'),
    field(5, shims.events.path),
    field(6, shims.grpcAddress),
    field(7, '/usr/bin/containerd'),
    ...extra,
  ]);
}

const path = (shims: ShimClient, group: string): string => {
  const name = createHash('sha256').update(`${shims.grpcAddress}/${shims.namespace}/${group}`).digest('hex');
  return `${shims.directory}/s/${name}`;
};

/** A start that fails as containerd would show it. Nothing may have been started or left. */
async function refused(
  t: Test,
  shims: ShimClient,
  id: string,
  stdin: Uint8Array,
  sentence: RegExp,
): Promise<void> {
  const bundle = await shims.makeBundle(id);
  const { status, output } = await shims.start(id, { stdin });
  t.equal(status, 1);
  t.match(output.toString(), /^containerd-shim-vm-v2: [^\n]+\n$/, 'one line');
  t.match(output.toString(), sentence);
  t.notOk(existsSync(join(bundle, 'address')), 'no address');
  t.notOk(existsSync(path(shims, id)), 'no socket');
  t.same(shims.daemons(), [], 'no daemon');
  rmSync(bundle, { recursive: true });
}

void t.test('start', async (t) => {
  const shims = await ShimClient.make(t);
  const group = { annotations: { 'io.kubernetes.cri.sandbox-id': 'pod' } };
  const address = `unix://${path(shims, 'pod')}`;

  await t.test('the first start of a pod', async (t) => {
    const marker = openSync(join(shims.directory, 'vmshim.toml'), 'r');
    const pod = await shims.shim('pod', { ...group, descriptors: Array.from({ length: 10 }, () => marker) });
    closeSync(marker);
    t.equal(pod.socketPath, path(shims, 'pod'), 'the socket is named by containerd’s rule');
    t.equal(readFileSync(join(pod.bundle, 'address'), 'utf8'), address, 'no newline');
    t.equal(statSync(pod.socketPath).mode & 0o777, 0o600);
    t.equal(statSync(join(shims.directory, 's')).mode & 0o777, 0o700);
    checkDaemon(t, pod, shims);
  });

  await t.test(
    'another start of the pod prints the same address, in the form its containerd reads',
    async (t) => {
      const [daemon] = shims.daemons();
      const say = async (
        id: string,
        start: Parameters<ShimClient['start']>[1],
        expected: string,
      ): Promise<void> => {
        const bundle = await shims.makeBundle(id, group);
        const { status, output } = await shims.start(id, start);
        t.equal(status, 0, id);
        t.equal(output.toString(), expected, id);
        t.equal(readFileSync(join(bundle, 'address'), 'utf8'), address, id);
        t.same(shims.daemons(), [daemon], `${id} started nothing`);
        rmSync(bundle, { recursive: true });
      };
      const json = (version: number): string => JSON.stringify({ version, address, protocol: 'ttrpc' });
      const version2 = options(field(3, configOf(shims, 'bootstrap_version = 2')));
      const version3 = options(field(3, configOf(shims, 'bootstrap_version = 3')));
      const configFile = options(field(2, shims.writeConfig('three.toml', 'bootstrap_version = 3')));
      const runc = Buffer.concat([
        field(1, 'containerd.runc.v1.Options'),
        field(2, Buffer.from([0x08, 0x01])),
      ]);
      await say('of-1.6', { env: { MAX_SHIM_VERSION: undefined } }, address);
      await say('of-1.6-with-options', { env: { MAX_SHIM_VERSION: undefined }, stdin: runc }, address);
      await say('of-1.7', {}, json(2));
      await say('empty-pipe', { stdin: new Uint8Array() }, json(2));
      await say('runc-options', { stdin: runc }, json(2));
      await say(
        'prefixed',
        { stdin: Buffer.concat([field(1, 'type.googleapis.com/x.Y'), field(2, '?')]) },
        json(2),
      );
      await say('config-body', { stdin: version3 }, json(3));
      await say('config-path', { stdin: configFile }, json(3));
      await say('of-2.3', { stdin: bootstrap(shims, 'of-2.3') }, json(3));
      await say(
        'of-2.3-without-variables',
        {
          stdin: bootstrap(shims, 'of-2.3-without-variables'),
          env: { MAX_SHIM_VERSION: undefined, TTRPC_ADDRESS: undefined },
        },
        json(3),
      );
      await say(
        'of-2.3-options',
        { stdin: bootstrap(shims, 'of-2.3-options', [field(8, field(1, version2))]) },
        json(2),
      );
    },
  );

  await t.test('containerd’s group annotation comes before the pod’s', async (t) => {
    const bundle = await shims.makeBundle('member', {
      annotations: { 'io.containerd.runc.v2.group': 'pod', 'io.kubernetes.cri.sandbox-id': 'other' },
    });
    t.match(JSON.parse((await shims.start('member')).output.toString()), { address });
    rmSync(bundle, { recursive: true });
  });

  await t.test('SIGTERM ends a shim without tasks and takes its socket away', async (t) => {
    const [daemon = 0] = shims.daemons();
    process.kill(daemon, 'SIGTERM');
    await processEnded(daemon);
    t.notOk(existsSync(path(shims, 'pod')));
    rmSync(shims.bundle('pod'), { recursive: true });
  });
});

/** How the daemon must stand: by itself, with nothing of containerd's but its environment. */
function checkDaemon(t: Test, { pid, bundle }: RunningShim, shims: ShimClient): void {
  const [, , , , , session] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ');
  t.equal(Number(session), pid, 'leads a session');
  const links = readdirSync(`/proc/${pid}/fd`).map((fd) => [fd, link(`/proc/${pid}/fd/${fd}`)] as const);
  const foreign = links.filter(([, to]) => to.includes(shims.directory) && !to.startsWith(`${bundle}/log`));
  t.same(foreign, [], 'no descriptor of containerd’s');
  t.same(
    links.filter(([fd]) => Number(fd) < 3).map(([, to]) => to),
    ['/dev/null', '/dev/null', '/dev/null'],
  );
  const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  t.same(
    environment.filter((entry) => /^NODE_(OPTIONS|EXTRA|PATH)/.test(entry)),
    [],
  );
  t.ok(environment.includes(`TTRPC_ADDRESS=${shims.events.path}`));
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

void t.test('a pod’s first start, alone and in a crowd', async (t) => {
  const shims = await ShimClient.make(t);

  await t.test('containerd 2.3 may name the socket directory and its own address', async (t) => {
    const directory = join(shims.directory, 's/own');
    const stdin = bootstrap(shims, 'own', [field(9, directory)]);
    const own = await shims.shim('own', { stdin, env: { TTRPC_ADDRESS: undefined } });
    t.ok(own.socketPath.startsWith(`${directory}/`));
    const io = shims.io('own');
    await own.task.create({ id: 'own', bundle: own.bundle, ...io.request });
    await shims.events.until('create', 'own');
    await shims.remove(own);
    await processEnded(own.pid);
    rmSync(directory, { recursive: true });
  });

  await t.test('a sandbox bundle may have no config.json', async () => {
    await shims.makeBundle('sandbox');
    rmSync(join(shims.bundle('sandbox'), 'config.json'));
    const { status, output } = await shims.start('sandbox');
    t.equal(status, 0, output.toString());
    await using task = await shims.connect(path(shims, 'sandbox'));
    const { shimPid } = await task.connect({ id: 'sandbox' });
    process.kill(shimPid, 'SIGTERM');
    await processEnded(shimPid);
    rmSync(shims.bundle('sandbox'), { recursive: true });
  });

  await t.test('the socket of a killed shim is replaced, by one of many that want to', async (t) => {
    const first = await shims.shim('crowd');
    process.kill(first.pid, 'SIGKILL');
    await processEnded(first.pid);
    t.ok(existsSync(first.socketPath), 'the dead shim’s socket is still there');
    const answers = await Promise.all(Array.from({ length: 8 }, () => shims.start('crowd')));
    for (const { status, output } of answers) {
      t.equal(status, 0, output.toString());
      t.match(JSON.parse(output.toString()), { address: `unix://${first.socketPath}` });
    }
    t.equal(shims.daemons().length, 1, 'one daemon');
    const task = await shims.connect(first.socketPath);
    t.same(
      [(await task.connect({ id: 'crowd' })).shimPid],
      shims.daemons(),
      'it is the one that has the socket',
    );
    await shims.end({ ...first, task });
  });

  await t.test('a shim that nobody wants ends by itself', async (t) => {
    await shims.makeBundle('idle');
    const { status } = await shims.start('idle', { env: { VMSHIM_IDLE_MS: '200' } });
    t.equal(status, 0);
    for (const pid of shims.daemons()) await processEnded(pid);
    t.notOk(existsSync(path(shims, 'idle')));
    rmSync(shims.bundle('idle'), { recursive: true });
  });
});

void t.test('start refuses what it does not understand in one line', async (t) => {
  const shims = await ShimClient.make(t);
  await refused(t, shims, 'garbage', Buffer.from('\xff\xfe\xfd garbage', 'latin1'), /stdin|input/);
  await refused(t, shims, 'text', Buffer.from('hello'), /stdin|input/);
  await refused(t, shims, 'other-id', bootstrap(shims, 'another'), /neither BootstrapParams for "other-id"/);
  await refused(
    t,
    shims,
    'wrong-key',
    options(field(3, 'qemuu = "/x"')),
    /options of the runtime.*:1: .*qemuu/,
  );
  await refused(t, shims, 'wrong-type', options(field(3, 'accel = 1')), /:1: .*accel/);
  await refused(
    t,
    shims,
    'no-file',
    options(field(2, '/nonexistent/config.toml')),
    /\/nonexistent\/config\.toml/,
  );

  await t.test('a config.json that is no JSON', async (t) => {
    const bundle = await shims.makeBundle('spec');
    writeFileSync(join(bundle, 'config.json'), '{');
    const { status, output } = await shims.start('spec');
    t.equal(status, 1);
    t.match(output.toString(), /config\.json/);
    t.notOk(existsSync(path(shims, 'spec')));
    rmSync(bundle, { recursive: true });
  });
});

void t.test('the other command lines', async (t) => {
  const shims = await ShimClient.make(t);
  for (const flag of ['-v', '--version', '-version=true']) {
    const { status, output } = await shims.run([flag]);
    t.equal(status, 0);
    t.match(output.toString(), /^containerd-shim-vm-v2:\n {2}Version: +\d+\.\d+\.\d+\n/, flag);
  }
  const { status, output } = await shims.run(['-info'], { stdin: options(field(3, 'x')) });
  t.equal(status, 0);
  const info = containerd.types.RuntimeInfo.decode(output);
  t.equal(info.name, 'io.containerd.vm.v2');
  t.match(info.version?.version, /^\d+\.\d+\.\d+$/);

  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [['-nonsense', 'x', 'start'], /flag -nonsense is not known/],
    [['-id', 'a', 'start'], /flag -namespace is missing/],
    [['-namespace', 'a b', '-id', 'a', 'start'], /flag -namespace is "a b"/],
    [['-namespace', 'n', '-id', 'a', 'restart'], /action "restart" is not known/],
    [['-namespace', 'n', '-id'], /flag -id needs a value/],
  ];
  for (const [args, sentence] of wrong) {
    const refusal = await shims.run(args);
    t.equal(refusal.status, 1);
    t.match(refusal.output.toString(), sentence);
    t.match(refusal.output.toString(), /^[^\n]+\n$/);
  }
});
