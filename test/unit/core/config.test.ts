import fc from 'fast-check';
import { parse, stringify } from 'smol-toml';
import t from 'tap';
import { type Config, parseConfig } from '../../../src/core/config.ts';
import { VmError } from '../../../src/core/errors.ts';
import { tomlLines } from '../../../src/core/toml-lines.ts';

const ORIGIN = '/etc/vmshim/config.toml';

function complaint(toml: string): string {
  try {
    parseConfig(toml, ORIGIN);
  } catch (error) {
    if (VmError.is(error, 'InvalidArgument')) return error.message;
    throw error;
  }
  return 'no complaint';
}

const defaults: Config = {
  qemu: '/usr/bin/qemu-system-x86_64',
  qemuImg: '/usr/bin/qemu-img',
  accel: 'auto',
  stateDir: '/run/vmshim',
  dataDir: '/var/lib/vmshim',
  bootstrapVersion: undefined,
  keepBase: 'free',
  kubeletDir: '/var/lib/kubelet',
  virtiofsd: undefined,
  hostDisks: [],
  limitMemory: true,
  rbd: { monitors: [], netns: undefined, timeout: 30 },
  console: { logBytes: 8 << 20, logFiles: 2 },
  network: { allowGuardOff: false },
  orphan: { deadline: 600, grace: 60 },
  firmware: {
    uefiCode: '/usr/share/OVMF/OVMF_CODE_4M.fd',
    uefiVars: '/usr/share/OVMF/OVMF_VARS_4M.fd',
    uefiSecureCode: '/usr/share/OVMF/OVMF_CODE_4M.secboot.fd',
    uefiSecureVars: '/usr/share/OVMF/OVMF_VARS_4M.ms.fd',
  },
  numa: {
    placement: 'auto',
    cpuThreshold: 4,
    memoryThreshold: 0.9,
    overflow: 'spread',
    dedicatedCpus: [],
  },
  defaults: {
    machine: 'q35',
    cpus: 1,
    memoryBytes: 512 << 20,
    cpuModel: 'default',
    firmware: 'bios',
    network: 'user',
  },
};

void t.test('an empty file is the defaults, a full one says all', (t) => {
  t.same(parseConfig('', ORIGIN), defaults);
  const toml = `
    qemu = "/opt/qemu"
    qemu_img = '/opt/img'
    accel = "tcg"
    state_dir = "/s"
    data_dir = "/d"
    bootstrap_version = 3
    keep_base = "copy"
    kubelet_dir = "/k"
    virtiofsd = "/v"
    host_disks = ["/srv/disks/", "/dev/vg0/data"]
    limit_memory = false
    firmware.uefi_code = "/c"
    firmware."uefi_vars" = "/v"
    firmware.uefi_secure_code = "/sc"
    firmware.uefi_secure_vars = "/sv"
    console = { log_bytes = 65536, log_files = 1 }
    network.allow_guard_off = true
    orphan = { deadline = 60, grace = 5 }
    [rbd]
    monitors = ["10.0.0.1:6789", "[FD00::1]:3300"]
    netns = "/run/netns/storage"
    timeout = 5
    [numa]
    placement = "none"
    cpu_threshold = 1.5
    memory_threshold = 0.75
    overflow = "refuse"
    dedicated_cpus = "2-3,7"
    [defaults]
    machine = "microvm"
    cpus = 4
    memory = "1Gi"
    cpu_model = "max"
    firmware = "uefi"
    network = "none"
  `;
  t.same(parseConfig(toml, ORIGIN), {
    qemu: '/opt/qemu',
    qemuImg: '/opt/img',
    accel: 'tcg',
    stateDir: '/s',
    dataDir: '/d',
    bootstrapVersion: 3,
    keepBase: 'copy',
    kubeletDir: '/k',
    virtiofsd: '/v',
    hostDisks: ['/srv/disks', '/dev/vg0/data'],
    limitMemory: false,
    rbd: {
      monitors: [
        { host: '10.0.0.1', port: '6789' },
        { host: 'fd00::1', port: '3300' },
      ],
      netns: '/run/netns/storage',
      timeout: 5,
    },
    console: { logBytes: 65536, logFiles: 1 },
    network: { allowGuardOff: true },
    orphan: { deadline: 60, grace: 5 },
    firmware: { uefiCode: '/c', uefiVars: '/v', uefiSecureCode: '/sc', uefiSecureVars: '/sv' },
    numa: {
      placement: 'none',
      cpuThreshold: 1.5,
      memoryThreshold: 0.75,
      overflow: 'refuse',
      dedicatedCpus: [2, 3, 7],
    },
    defaults: {
      machine: 'microvm',
      cpus: 4,
      memoryBytes: 2 ** 30,
      cpuModel: 'max',
      firmware: 'uefi',
      network: 'none',
    },
  });
  t.end();
});

void t.test('complaints name file, line, key and remedy', (t) => {
  const cases: [string, string][] = [
    [
      '# comment\n\n[console]\nlog_files = 3\n\n[defaults]\nmemmory = "1Gi"\n',
      ':7: unknown key "defaults.memmory"; did you mean "memory"?',
    ],
    ['qemu = "/x"\nqmeu = 1', ':2: unknown key "qmeu"; did you mean "qemu"?'],
    ['a = """\nqemu = 5\n"""', ':1: unknown key "a"; known are qemu, qemu_img, accel,'],
    ['\nqemu = "qemu"', ':2: qemu must be an absolute path without "..", but is "qemu"'],
    ['state_dir = "/run/../x"', ':1: state_dir must be an absolute path'],
    ['accel = "xen"', ':1: accel must be auto, kvm or tcg, but is "xen"'],
    ['accel = true', ':1: accel must be auto, kvm or tcg, but is true'],
    ['bootstrap_version = 1', ':1: bootstrap_version must be 2 or 3, but is 1'],
    ['console = 5', ':1: console must be a table, but is 5'],
    ['[[console]]', ':1: console must be a table, but is a list'],
    [
      '\n[console]\nlog_bytes = "1Ki"',
      ':3: console.log_bytes must be a quantity of at least 64Ki, such as "8Mi", but is "1Ki"',
    ],
    ['[console]\nlog_files = 0', ':2: console.log_files must be a whole number from 1 to 100, but is 0'],
    ['[defaults]\ncpus = "2"', ':2: defaults.cpus must be a whole number from 1 to 255, but is "2"'],
    ['[defaults]\ncpus = 1.5', ':2: defaults.cpus must be'],
    ['[defaults]\ncpus = nan', ':2: defaults.cpus must be'],
    ['defaults.memory = -1', ':1: defaults.memory must be'],
    [
      "defaults = { cpus = 1, 'mach\"ine' = 5 }",
      ':1: unknown key "defaults.mach\\"ine"; did you mean "machine"?',
    ],
    ['\n"q\\u0065mu" = 5', ':2: qemu must be'],
    [
      '[defaults]\r\ncpus = 1\r\nnetwork = "tap"\r\n',
      ':3: defaults.network must be user or none, but is "tap"',
    ],
    ['[numa]\ncpu_threshold = 0', ':2: numa.cpu_threshold must be a number above 0, at most 64, but is 0'],
    ['[numa]\nmemory_threshold = 1.1', ':2: numa.memory_threshold must be a number above 0, at most 1'],
    ['[numa]\noverflow = "fail"', ':2: numa.overflow must be spread, float or refuse, but is "fail"'],
    [
      '[numa]\ndedicated_cpus = "4-2"',
      ':2: numa.dedicated_cpus must be a list of CPUs such as "4-15,20", but is "4-2"',
    ],
    ['__proto__ = 1', ':1: unknown key "__proto__"'],
    ['constructor = 1', ':1: unknown key "constructor"'],
    ['qemu = 1979-05-27', ':1: qemu must be an absolute path without "..", but is an object'],
    ['\n\nqemu = ', ':3: '],
    ['qemu = "/a"\nqemu = "/b"', ':2: '],
    ['[console', ':1: '],
  ];
  for (const [toml, expected] of cases) {
    const text = complaint(toml);
    t.ok(text.startsWith(ORIGIN + expected), `${JSON.stringify(toml)}: ${text}`);
    t.notMatch(text, /\n/);
  }
  t.end();
});

void t.test('lines of keys after everything that can hide one', (t) => {
  const toml = `\uFEFF# k = 1
[ a . "b.c" ] # [x]
d."e f" = """
k = 1
\\""" "quoted"""" # k = 2
list = [ # [k]
  "]", '#', { k = "}" }, [1,
  2],
] # done
'lit\\' = '''
k = 3'''
k = 1979-05-27 07:32:00 # k
[[a.t]]
k = "a\\"k = 1"
[a.t.u]
k.l = { m = 1, n.o = [] }
`;
  parse(toml);
  const line = tomlLines(toml);
  const expected: [string[], number][] = [
    [['a'], 2],
    [['a', 'b.c'], 2],
    [['a', 'b.c', 'd', 'e f'], 3],
    [['a', 'b.c', 'list'], 6],
    [['a', 'b.c', 'list', 'k'], 7],
    [['a', 'b.c', 'lit\\'], 10],
    [['a', 'b.c', 'k'], 12],
    [['a', 't'], 13],
    [['a', 't', 'k'], 14],
    [['a', 't', 'u'], 15],
    [['a', 't', 'u', 'k', 'l', 'm'], 16],
    [['a', 't', 'u', 'k', 'l', 'n', 'o'], 16],
  ];
  for (const [path, wanted] of expected) t.equal(line(path), wanted, path.join(' / '));
  t.end();
});

void t.test('every key of any document is found on a line that names it', (t) => {
  const key = fc.oneof(
    fc.string({ minLength: 1, maxLength: 8 }),
    fc.constantFrom('a', 'b', 'a.b', '"', "'", '#', '[x]'),
  );
  const leaf = fc.oneof(
    fc.string(),
    fc.integer(),
    fc.boolean(),
    fc.double({ noNaN: true }),
    fc.array(fc.string(), { maxLength: 3 }),
  );
  const { table } = fc.letrec<{ table: Record<string, unknown>; value: unknown }>((tie) => ({
    value: fc.oneof({ maxDepth: 3 }, leaf, tie('table')),
    table: fc.dictionary(key, tie('value'), { maxKeys: 4 }),
  }));
  fc.assert(
    fc.property(table, (document) => {
      const toml = stringify(document);
      const lines = toml.split('\n');
      const find = tomlLines(toml);
      const visit = (node: object, path: readonly string[]): boolean =>
        Object.entries(node).every(([name, value]) => {
          const below = [...path, name];
          const text = lines[find(below) - 1] ?? '';
          const named =
            text.includes(name) || text.includes(JSON.stringify(name).slice(1, -1)) || /["\\]/.test(text);
          const isTable = typeof value === 'object' && value !== null && !Array.isArray(value);
          return named && (!isTable || visit(value as object, below));
        });
      return visit(parse(toml), []);
    }),
    { numRuns: 500 },
  );
  t.end();
});

void t.test('any text is a config or InvalidArgument', (t) => {
  const line = fc.oneof(
    fc.string(),
    fc
      .tuple(fc.constantFrom('qemu', 'accel', 'defaults.cpus', 'x'), fc.jsonValue())
      .map(([k, v]) => `${k} = ${JSON.stringify(v)}`),
    fc.constantFrom('[console]', '[defaults]', '[firmware]', '[[x]]'),
  );
  fc.assert(
    fc.property(fc.array(line), (lines) => complaint(lines.join('\n')).length > 0),
    { numRuns: 1000 },
  );
  t.end();
});
