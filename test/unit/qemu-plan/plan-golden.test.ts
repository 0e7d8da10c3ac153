import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { planQemu, type QemuCommand } from '../../../src/qemu/plan.ts';
import type { QemuInput } from '../../../src/qemu/qemu-input.ts';
import { checkArgs, parseArgs } from './check-args.ts';
import { goldenCases, goldenFiles, goldenPath } from './golden-cases.ts';
import { loadQemuSchema } from './qemu-schema.ts';

// UPDATE_GOLDEN=1 writes what the plan makes now; read the diff before committing it.
const update = process.env['UPDATE_GOLDEN'] === '1';
const schema = loadQemuSchema();
const cases = goldenCases();

/** One option per line, the descriptors first. */
function printCommand({ fds, args }: QemuCommand): string {
  const lines = [
    ...fds.map((role, index) => `# fd ${index + 3}: ${role}`),
    ...parseArgs(args).map(({ flag, value }) => (value === undefined ? flag : `${flag} ${value}`)),
  ];
  return `${lines.join('\n')}\n`;
}

function outcome(input: QemuInput): { kind: 'args' | 'err'; text: string; args: readonly string[] } {
  try {
    const command = planQemu(input);
    return { kind: 'args', text: printCommand(command), args: command.args };
  } catch (error) {
    if (!VmError.is(error)) throw error;
    return { kind: 'err', text: `${error.kind}: ${error.message}\n`, args: [] };
  }
}

for (const { name, input } of cases) {
  void t.test(name, (t) => {
    const { kind, text, args } = outcome(input);
    if (update) writeFileSync(goldenPath(name, kind), text);
    t.equal(text, readFileSync(goldenPath(name, kind), 'utf8'));
    t.strictSame(checkArgs(schema, args), [], 'QEMU 7.2 knows every option, key and type');
    t.end();
  });
}

void t.test('every golden file is the outcome of one case', (t) => {
  const planned = cases.map(({ name, input }) => `${name}.${outcome(input).kind}`);
  const found = (['.args', '.err'] as const).flatMap((kind) => goldenFiles(kind).map((name) => name + kind));
  t.strictSame(found.toSorted(), planned.toSorted());
  t.ok(planned.length > 0);
  t.end();
});

void t.test('the dump is of the QEMU it is named for', (t) => {
  t.match(schema.version, /^7\.2\./);
  t.end();
});
