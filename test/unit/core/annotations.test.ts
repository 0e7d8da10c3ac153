import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import {
  AGENT_KEYS,
  type Annotation,
  ANNOTATIONS,
  ANNOTATION_PREFIX,
  parseAnnotations,
} from '../../../src/core/annotations.ts';
import { MAX_USER_DATA } from '../../../src/core/parse-guest-values.ts';
import { VmError } from '../../../src/core/errors.ts';

/** Public, of a key pair nobody kept. */
const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPoo9bLxdKlQDBnr2BDaBlNzTFI0ZwWBlTpZD0tqbc5h me';
const table = Object.entries<Annotation<unknown>>(ANNOTATIONS);

function complaint(annotations: Record<string, unknown>): string {
  try {
    parseAnnotations(annotations);
  } catch (error) {
    if (VmError.is(error, 'InvalidArgument')) return error.message;
    throw error;
  }
  return 'no complaint';
}

void t.test('the documentation says of every key what the table says, and of no other', (t) => {
  const doc = readFileSync(new URL('../../../docs/annotations.md', import.meta.url), 'utf8');
  const sections = doc.split(/^### /m).slice(1);
  t.same(
    sections.map((section) => section.split('\n')[0]),
    table.map(([key]) => `\`${ANNOTATION_PREFIX}${key}\``),
  );
  for (const [i, [key, annotation]] of table.entries()) {
    const section = sections[i] ?? '';
    t.ok(section.includes(`\n${annotation.description}\n`), `${key}: description`);
    t.ok(section.includes(`\n- Value: ${annotation.type}\n`), `${key}: value`);
    t.ok(section.includes(`\n- Default: ${annotation.default}\n`), `${key}: default`);
    t.ok(section.includes(`\n- Example: \`${annotation.example}\`\n`), `${key}: example`);
  }
  for (const key of AGENT_KEYS) t.ok(doc.includes(`\`${ANNOTATION_PREFIX}${key}\``), key);
  t.end();
});

void t.test('every example is accepted', (t) => {
  for (const [key, { example }] of table) {
    const values = parseAnnotations({ [ANNOTATION_PREFIX + key]: ` ${example} ` });
    t.same(Object.keys(values), [key], key);
  }
  t.end();
});

void t.test('values', (t) => {
  const read = (key: string, value: string): unknown =>
    (parseAnnotations({ [ANNOTATION_PREFIX + key]: value }) as Record<string, unknown>)[key];
  t.equal(read('cpus', '255'), 255);
  t.equal(read('memory', '1Gi'), 2 ** 30);
  t.equal(read('mac', '52:54:00:AB:cd:ef'), '52:54:00:ab:cd:ef');
  t.equal(read('cmdline', ''), '');
  t.same(
    ['auto', 'none', 'spread', '3', 'near:ens1f0.7'].map((value) => read('numa', value)),
    [
      { kind: 'auto' },
      { kind: 'none' },
      { kind: 'spread' },
      { kind: 'node', node: 3 },
      { kind: 'near', link: 'ens1f0.7' },
    ],
  );
  t.same(read('port-forwards', 'tcp:127.0.0.1:8022:22, udp::5353:53'), [
    { protocol: 'tcp', hostAddress: '127.0.0.1', hostPort: 8022, guestPort: 22 },
    { protocol: 'udp', hostAddress: '0.0.0.0', hostPort: 5353, guestPort: 53 },
  ]);
  const text = (key: string, value: string): string => Buffer.from(read(key, value) as Uint8Array).toString();
  t.equal(text('user-data', ' a\r\n\n '), ' a\r\n\n ', 'every byte, white space around it as well');
  t.equal(text('user-data-base64', 'YQBi\n'), 'a\0b');
  t.same(read('ssh-keys', `# mine\n${KEY}\r\n\n${KEY}\nfrom="10.0.0.1" ${KEY}`), [
    KEY,
    `from="10.0.0.1" ${KEY}`,
  ]);
  t.same(read('meta', '{"role": "web", "__proto__": "x"}'), JSON.parse('{"role": "web", "__proto__": "x"}'));
  t.same(
    parseAnnotations({ other: 5, 'vmshim.iox/cpus': 'x', [`${ANNOTATION_PREFIX}power-request`]: '{}' }),
    {},
  );
  t.end();
});

void t.test('wrong values name key, value and remedy', (t) => {
  const wrong: Record<string, string[]> = {
    cpus: ['0', '-1', '1.5', '256', 'two', '', '1e2', '0x2'],
    memory: ['much', '-1Gi', ''],
    'max-memory': ['much', '-1Gi', ''],
    machine: ['pc', 'Q35', 'constructor'],
    firmware: ['efi', 'uefi-Secure'],
    'cpu-model': ['host,-vmx', '', '-cpu', 'x'.repeat(65)],
    accel: ['xen'],
    os: ['Windows', 'macos'],
    hyperv: ['true', 'yes'],
    clock: ['local', 'UTC'],
    video: ['vga', 'cirrus', ''],
    'disk-bus': ['ide', 'virtio-blk'],
    'nic-model': ['e1000', 'virtio-net'],
    'on-shim-death': ['restart', 'Survive'],
    'on-io-error': ['ignore', 'pause'],
    'max-cpus': ['0', '256', 'many'],
    'nested-virtualization': ['true', ''],
    numa: ['', 'node0', '-1', '0-1', 'near:', 'near:a/b', 'near:sixteen-letters-'],
    'cpu-pinning': ['', 'exclusive', 'Dedicated'],
    'on-poweroff': ['', 'stop', 'Hold'],
    'on-reboot': ['reset'],
    'on-crash': ['preserve'],
    watchdog: ['ib700', 'on'],
    'watchdog-action': ['poweroff', 'inject-nmi'],
    network: ['bridge'],
    'port-forwards': [
      '',
      '80:80',
      'tcp:80:80',
      'sctp::80:80',
      'tcp::0:80',
      'tcp::80:65536',
      'tcp:256.0.0.1:80:80',
      'tcp:010.0.0.1:80:80',
      'tcp:localhost:80:80',
      'tcp::80:80,',
      'tcp::80:80,tcp:127.0.0.1:80:81',
      'tcp:127.0.0.1:80:80,tcp:127.0.0.1:80:81',
    ],
    'spoof-guard': ['false', 'no', ''],
    mac: ['52:54:00:12:34', '53:54:00:12:34:56', '00:00:00:00:00:00', '52-54-00-12-34-56'],
    'root-size': ['0', 'big'],
    'root-key': ['', 'pod', 'Name'],
    'root-fill': ['', 'always'],
    disks: ['', '{}', '[1]', '{"name": "x"}'],
    'shared-directories': ['', '{}', '[1]', '{"volume": "/x"}'],
    kernel: ['vmlinuz', '/../etc/shadow', '/boot/', '/', '/a\nb'],
    initrd: ['initrd', '/a/../b'],
    cmdline: ['a\nb', 'x'.repeat(2048)],
    name: ['', '-x', 'a b', 'a,b=c', 'x'.repeat(254)],
    'guest-data': ['', 'configdrive', 'iso'],
    'user-data': ['x'.repeat(MAX_USER_DATA + 1)],
    'user-data-base64': ['secret!', 'c2VjcmV0=', 'A'.repeat(4 * Math.ceil((MAX_USER_DATA + 1) / 3))],
    'vendor-data': [],
    'ssh-keys': [
      'secret',
      'ssh-ed25519 short',
      `${KEY}\0`,
      `${KEY}\nnot a key`,
      '-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA',
    ],
    hostname: ['', 'a b', '-a', 'a-', 'a..b', 'a_b', 'x'.repeat(64), 'a.'.repeat(127)],
    meta: ['', 'secret', '[]', '{"a": 1}', '{"a": "b"', 'null'],
    'availability-zone': ['', 'a\nb', 'x'.repeat(256)],
    'guest-network': ['none', 'DHCP'],
  };
  t.same(Object.keys(wrong), Object.keys(ANNOTATIONS));
  for (const [key, values] of Object.entries(wrong)) {
    for (const value of values) {
      const text = complaint({ [ANNOTATION_PREFIX + key]: value });
      const { secret } = (ANNOTATIONS as Record<string, Annotation<unknown>>)[key] ?? {};
      const shown = secret === true ? 'not what it must be; give' : '"';
      const what = `${key} ${JSON.stringify(value.slice(0, 40))}`;
      t.match(text, `annotation vmshim.io/${key} is ${shown}`, what);
      if (secret === true && value !== '') t.notMatch(text, value.slice(0, 6), `${what} is not told`);
      t.match(text, '; give ');
    }
  }
  t.equal(
    complaint({ 'vmshim.io/cpus': '0' }),
    'annotation vmshim.io/cpus is "0"; give a whole number from 1 to 255, such as "2"',
  );
  t.match(complaint({ 'vmshim.io/cpus': 2 }), 'annotation vmshim.io/cpus is 2; give');
  t.match(complaint({ 'vmshim.io/cpus': ['2'] }), 'annotation vmshim.io/cpus is a list; give');
  t.end();
});

void t.test('unknown keys', (t) => {
  t.equal(
    complaint({ 'vmshim.io/memmory': '1Gi' }),
    'unknown annotation "vmshim.io/memmory"; did you mean "vmshim.io/memory"?',
  );
  t.match(complaint({ 'vmshim.io/Port_Forwards': '' }), 'did you mean "vmshim.io/port-forwards"?');
  t.match(
    complaint({ 'vmshim.io/telepathy': '' }),
    /; known are vmshim.io\/cpus, vmshim.io\/memory, .*vmshim.io\/guest-network$/,
  );
  t.match(complaint({ 'vmshim.io/': '' }), 'unknown annotation');
  t.match(complaint({ 'vmshim.io/__proto__': '' }), 'unknown annotation');
  t.match(complaint({ 'vmshim.io/toString': '' }), 'unknown annotation');
  t.match(complaint({ [`vmshim.io/${'x'.repeat(5000)}`]: '' }), 'unknown annotation');
  t.end();
});

void t.test('whatever the values are: values or InvalidArgument', (t) => {
  const name = fc.oneof(
    fc.constantFrom(...table.map(([key]) => ANNOTATION_PREFIX + key)),
    fc.string().map((key) => ANNOTATION_PREFIX + key),
    fc.string(),
  );
  const value = fc.oneof(
    fc.anything({ withBigInt: true, withNullPrototype: true }),
    fc.string(),
    fc.constantFrom(...table.map(([, a]) => a.example)),
  );
  fc.assert(
    fc.property(fc.dictionary(name, value), (annotations) => complaint(annotations).length > 0),
    { numRuns: 1000 },
  );
  t.end();
});
