/**
 * What kubelet and kubectl see of a VM's network beside its traffic: forwarded ports, host ports, probes, statistics and bandwidth
 * limits, whichever way its card joins the network.
 */
import { text } from 'node:stream/consumers';
import { execa } from 'execa';
import t, { type Test } from 'tap';
import { bridgePlugins } from '../support/cri-node-network.ts';
import { type CriNode, criContainerd } from '../support/cri-containerd.ts';
import type { CriPod } from '../support/cri-pod.ts';
import { type CriGuest, startGuest, type Way, WAYS } from '../support/cri-ways.ts';
import { type TestNetns, testNetns } from '../support/test-netns.ts';
import { vmctl } from '../support/vm-image.ts';

const HTTP = 80;
const COUNT = 90;
const HOST_PORT = 8080;
/** Bytes of the transfers that are measured. */
const BIG = 2_000_000;
/** Bits per second. */
const RATE = 8_000_000;
/** Bytes that pass at once, as docs/cni.md has it. */
const BURST = 128 * 1024;
/** What a transfer takes at least when it is held to the rate, in seconds. */
const HELD = (BIG - BURST) / (RATE / 8);

const annotations = {
  'kubernetes.io/ingress-bandwidth': '8M',
  'kubernetes.io/egress-bandwidth': '8M',
};

for (const [name, way] of Object.entries<Way>(WAYS)) {
  const isTap = way.plugins !== undefined;
  void t.test(name, async (t) => {
    const node = await criContainerd(t, {
      vmPlugins:
        way.plugins ??
        ((network) => [...bridgePlugins(network), { type: 'bandwidth', capabilities: { bandwidth: true } }]),
    });
    const outside = testNetns(t);
    const { node: nodeAddresses } = await node.network.joinOutside(outside);
    const guest = await startGuest(t, node, way, {
      annotations,
      portMappings: [{ protocol: 'TCP', containerPort: HTTP, hostPort: HOST_PORT }],
    });
    await serve(guest);

    await t.test('probes to the pod’s addresses', async (t) => {
      for (const ip of guest.addresses) {
        t.equal(await fromNode(node, url(ip, HTTP, 'hi')), 'hello', `from the node to ${ip}`);
      }
      await t.rejects(fromNode(node, url(guest.addresses[0] ?? '', 81, 'hi')), /refused/);
    });
    await t.test('kubectl port-forward', (t) => forwardedPorts(t, guest.pod));
    await t.test('hostPort', async (t) => {
      for (const ip of nodeAddresses) {
        const target = url(ip, HOST_PORT, 'hi');
        t.equal(fromOutside(outside, target), 'hello', `from outside to ${target}`);
        t.equal(await fromNode(node, target), 'hello', `from the node to ${target}`);
      }
    });
    if (way.prefixes[0] !== 32) {
      await t.test('hostPort on the node’s loopback', async (t) => {
        t.equal(await fromNode(node, url('127.0.0.1', HOST_PORT, 'hi')), 'hello');
      });
    }
    await t.test('bandwidth limits', (t) => (isTap ? limits(t, node, guest) : stockLimits(t, node)));
    await t.test('statistics', (t) => statistics(t, node, guest, isTap));

    guest.console[Symbol.dispose]();
    await guest.pod.remove();
    const rules = await node.network.run('iptables-save');
    t.notMatch(rules, /--to-destination/, 'portmap’s rules are gone with the pod');
    const links = node.network.links().filter((link) => /^(v[ti]|bwp)/.test(link));
    t.same(links, [], 'and every link of its VM');
  });
}

/** A file server, and one that counts what it is sent. */
async function serve({ console }: CriGuest): Promise<void> {
  const files = `mkdir /run/www && echo -n hello >/run/www/hi && (head -c ${BIG - 1} /dev/zero && echo -n 1) >/run/www/big`;
  await console.ask(`${files} && httpd -p ${HTTP} -h /run/www && echo "files $((1))"`, /files 1/);
  await console.ask(`(nc -ll -p ${COUNT} -e wc -c &) && echo "count $((1))"`, /count 1/);
}

function url(ip: string, port: number, path: string): string {
  return `http://${ip.includes(':') ? `[${ip}]` : ip}:${port}/${path}`;
}

async function fromNode(node: CriNode, target: string): Promise<string> {
  return await node.network.run('busybox', 'wget', '-q', '-O', '-', target);
}

function fromOutside(outside: TestNetns, target: string): string {
  return outside.exec('busybox', 'wget', '-q', '-O', '-', target);
}

async function forwardedPorts(t: Test, pod: CriPod): Promise<void> {
  {
    using connection = await pod.forward(HTTP);
    connection.send('GET /hi HTTP/1.0\r\n\r\n');
    t.ok(await connection.output.until(/200 OK[^]*hello$/), 'a port of the guest');
  }
  {
    using large = await pod.forward(HTTP);
    large.send('GET /big HTTP/1.0\r\n\r\n');
    // The last byte of the file.
    t.ok(await large.output.until(/200 OK[^]*?\r\n\r\n\0+1$/), 'as much as the guest sends');
    t.equal(large.output.text.length - large.output.text.indexOf('\r\n\r\n') - 4, BIG);
  }

  using refused = await pod.forward(81);
  refused.send('x');
  t.ok(await refused.error.until(/reset|closed/), 'a port that nobody listens on');
}

async function limits(t: Test, node: CriNode, { addresses, vm }: CriGuest): Promise<void> {
  const [ip = ''] = addresses;
  const status = await vmctlStatus(node, vm.id);
  t.match(status.network, /limited to received 8000000 bit\/s, sent 8000000 bit\/s/);
  const [, tap = ''] = / on (vt\w+) /.exec(status.network) ?? [];
  for (const [what, link, transfer] of [
    ['sends', tap.replace('vt', 'vi'), () => download(node, ip)],
    ['receives', tap, () => upload(t, node, ip)],
  ] as const) {
    const before = await queue(node, link);
    const began = performance.now();
    await transfer();
    const seconds = (performance.now() - began) / 1000;
    const after = await queue(node, link);
    const bytes = after.bytes - before.bytes;
    // Once, with headers and what TCP sends again on a busy machine.
    t.ok(bytes >= BIG && bytes < BIG * 1.9, `what the guest ${what} passes the queue: ${bytes} bytes`);
    t.ok(after.overlimits > before.overlimits, 'and waits there');
    t.ok(seconds >= HELD, `${what} ${BIG} bytes in ${seconds.toFixed(2)} s, not under ${HELD.toFixed(2)} s`);
    t.equal(after.rate, RATE / 8, 'nor is the rate lower');
  }
}

async function download(node: CriNode, ip: string): Promise<void> {
  await node.network.run('busybox', 'wget', '-q', '-O', '/dev/null', url(ip, HTTP, 'big'));
}

async function upload(t: Test, node: CriNode, ip: string): Promise<void> {
  const connection = node.network.connect(ip, COUNT);
  connection.end(Buffer.alloc(BIG));
  t.equal((await text(connection)).trim(), String(BIG), 'all of it arrives');
}

/** In mode `netns` the stock plugin limits the other end of the pod's link. */
async function stockLimits(t: Test, node: CriNode): Promise<void> {
  const queues = await node.network.run('tc', 'qdisc', 'show');
  t.match(queues, /tbf .*dev veth\w+ root .*rate 8Mbit/);
  t.match(queues, /tbf .*dev bwp\w+ root .*rate 8Mbit/);
}

interface Queue {
  readonly bytes: number;
  readonly overlimits: number;
  /** Bytes per second. */
  readonly rate: number;
}

async function queue(node: CriNode, link: string): Promise<Queue> {
  const said = await node.network.run('tc', '-s', '-json', 'qdisc', 'show', 'dev', link, 'root');
  const [found] = JSON.parse(said) as (Queue & { kind: string; options: { rate: number } })[];
  if (found?.kind !== 'tbf') throw new Error(`${link} has no limit: ${said}`);
  return { ...found, rate: found.options.rate };
}

async function statistics(t: Test, node: CriNode, guest: CriGuest, isTap: boolean): Promise<void> {
  const own = async (name: string): Promise<number> => {
    const line = `echo "$((${name === 'rx' ? 1 : 2}))=$(cat /sys/class/net/eth0/statistics/${name}_bytes)"`;
    return Number((await guest.console.ask(line, /[12]=(\d+)\r?\n/))[1]);
  };
  const [received, sent] = [await own('rx'), await own('tx')];
  const { traffic } = await vmctlStatus(node, guest.vm.id);
  t.match(traffic, [{ name: 'eth0' }]);
  const [nic = { rxBytes: 0, txBytes: 0 }] = traffic;
  t.ok(nic.rxBytes >= received, `vmctl: ${nic.rxBytes} bytes received, the guest says ${received}`);
  t.ok(nic.txBytes >= sent && nic.txBytes >= BIG, `vmctl: ${nic.txBytes} bytes sent, the guest says ${sent}`);
  const { stdout: lines } = await execa(vmctl, ['status', guest.vm.id], {
    env: node.containerd.environment(),
  });
  t.match(lines, /traffic +eth0 received \d+ bytes in \d+ packets .*, sent \d+ bytes/);
  const { stdout: metrics } = await node.containerd.ctr(
    ...['--namespace', 'k8s.io', 'tasks', 'metrics', '--format', 'json', guest.vm.id],
  );
  t.match(
    metrics,
    /"network": ?\[\s*\{\s*"name": ?"eth0",\s*"rx_bytes": ?\d{4,},/,
    'and so do the task’s metrics',
  );

  const { stats } = await node.cri.call('PodSandboxStats', { podSandboxId: guest.pod.id });
  const seen = stats.linux?.network?.defaultInterface;
  if (isTap) t.equal(seen?.rxBytes?.value ?? 0, 0, 'CRI finds no link in the pod’s namespace');
  else t.ok((seen?.txBytes?.value ?? 0) >= BIG, 'CRI reads the pod’s link');
}

async function vmctlStatus(
  node: CriNode,
  id: string,
): Promise<{ network: string; traffic: { name: string; rxBytes: number; txBytes: number }[] }> {
  const { stdout } = await execa(vmctl, ['status', id, '--json'], { env: node.containerd.environment() });
  return JSON.parse(stdout) as Awaited<ReturnType<typeof vmctlStatus>>;
}
