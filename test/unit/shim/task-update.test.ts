import t from 'tap';
import { parseTaskUpdate, type TaskUpdate } from '../../../src/shim/task-update.ts';

const MIB = 1 << 20;
const parse = (resources: unknown): TaskUpdate => parseTaskUpdate(Buffer.from(JSON.stringify(resources)));
const nothing = {
  cpu: {
    cpuShares: undefined,
    cpuQuota: undefined,
    cpuPeriod: undefined,
    cpusetCpus: undefined,
    cpusetMems: undefined,
  },
  memoryBytes: undefined,
};

void t.test('what changes', (t) => {
  t.same(
    parse({
      cpu: { shares: 512, quota: -1, period: 100000, cpus: '0-3,8', mems: '0' },
      memory: { limit: 256 * MIB },
      pids: { limit: 7 },
    }),
    {
      cpu: { cpuShares: 512, cpuQuota: -1, cpuPeriod: 100000, cpusetCpus: '0-3,8', cpusetMems: '0' },
      memoryBytes: 256 * MIB,
    },
  );
  t.end();
});

void t.test('what does not', (t) => {
  t.same(parseTaskUpdate(undefined), nothing);
  t.same(parseTaskUpdate(null), nothing);
  t.same(parse({}), nothing);
  t.same(parse({ cpu: null, memory: {} }), nothing);
  t.same(
    parse({ cpu: { shares: 0, quota: 0, period: 0, cpus: '', mems: null }, memory: { limit: 0 } }),
    nothing,
  );
  for (const limit of [-1, 2 ** 50, 2 ** 63 - 4096]) {
    t.equal(parse({ memory: { limit } }).memoryBytes, undefined, `${limit} is no limit`);
  }
  t.equal(
    parse({ memory: { limit: 128 * MIB + 4096 } }).memoryBytes,
    128 * MIB,
    'rounded down as at creation',
  );
  t.end();
});

void t.test('what is wrong names its field', (t) => {
  const cases: readonly (readonly [unknown, RegExp])[] = [
    [{ cpu: [] }, /resources\.cpu of the update must be an object/],
    [{ memory: 7 }, /resources\.memory/],
    [{ cpu: { shares: 1.5 } }, /resources\.cpu\.shares of the update is 1\.5; it must be a whole number/],
    [{ cpu: { quota: '7' } }, /resources\.cpu\.quota of the update is "7"/],
    [{ memory: { limit: true } }, /resources\.memory\.limit/],
    [
      { cpu: { cpus: '3-' } },
      /resources\.cpu\.cpus of the update is "3-"; it must be a list such as "0-3,8"/,
    ],
    [{ cpu: { mems: '0;rm' } }, /resources\.cpu\.mems/],
    [[], /no JSON object/],
    ['x', /no JSON object/],
    [null, /no JSON object/],
  ];
  for (const [resources, message] of cases) {
    t.throws(() => parse(resources), { kind: 'InvalidArgument', message }, JSON.stringify(resources));
  }
  t.throws(() => parseTaskUpdate(Buffer.from('{')), { kind: 'InvalidArgument', message: /no JSON object/ });
  t.end();
});
