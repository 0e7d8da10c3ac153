import { parseConfig } from '../../../src/core/config.ts';
import { anyText, mutateBytes, mutateText } from '../mutate.ts';
import { type FuzzTarget, showText } from '../target.ts';

const SAMPLE = `# comment
qemu = "/usr/bin/qemu-system-x86_64"
accel = "auto"
state_dir = '/run/vmshim'
bootstrap_version = 2
keep_base = "free"
kubelet_dir = """/var/lib/kubelet"""
[console]
log_bytes = "8Mi"
log_files = 0x2
[network]
allow_guard_off = true
[firmware]
uefi_code = "/usr/share/OVMF/OVMF_CODE_4M.fd"
[defaults]
machine = "q35"
cpus = 1
memory = 536_870_912
cpu_model = "default"
network = "none"
`;

const LINES = SAMPLE.split('\n');
const VALUES = [
  ...[
    '1',
    '-1',
    '1.5',
    'inf',
    'nan',
    '1e400',
    '0b11',
    '9223372036854775808',
    'true',
    '[]',
    '{}',
    '{a = 1}',
    '""',
    "''",
  ],
  ...[
    '1979-05-27T07:32:00Z',
    '07:32:00',
    '[[1], "a", 2.0]',
    '"\\u0000"',
    '"\\ud800"',
    '"unterminated',
    '"""x',
    '/x',
  ],
];

/** The administrator is trusted and makes mistakes, and containerd hands its own table over as TOML. */
export function configTarget(): FuzzTarget {
  return {
    name: 'config',
    about: 'the configuration file',
    make: (random) => {
      const lines = [...LINES];
      for (let rounds = 1 + random.below(2); rounds > 0; rounds--) {
        const at = random.below(lines.length);
        const [key = 'x'] = (lines[at] ?? '').split(' =');
        const changes = [
          () => `${key} = ${random.pick(VALUES)}`,
          () => mutateText(random, lines[at] ?? ''),
          () => `${JSON.stringify(anyText(random))} = 1`,
          () => `[${anyText(random)}]`,
          () => `[[${key}]]`,
          () => '',
          () => `a = ${'['.repeat(500)}`,
          () => `a${'.a'.repeat(500)} = 1`,
        ];
        lines[at] = random.pick(changes)();
      }
      const whole = Buffer.from(lines.join('\n'));
      const text = (random.below(3) === 0 ? mutateBytes(random, whole) : whole).toString('utf8');
      return { show: () => showText(text), run: () => parseConfig(text, '/etc/vmshim/config.toml') };
    },
  };
}
