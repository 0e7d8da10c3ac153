import t from 'tap';
import { type NodeFiles, type NodeMode, planNode } from '../../../scripts/node/plan-node.ts';

const files: NodeFiles = {
  qemu: ['qemu'],
  kernel: '/k',
  initrd: '/i',
  root: '/root.img',
  tree: '/a,b/tree.img',
  modules: '/m.img',
};
const run: NodeMode = {
  kind: 'run',
  ports: [{ name: 'testbed.out', socket: '/s/out' }],
  eyes: { monitor: '/s/monitor', console: '/s/console', consoleLog: '/s/console.log' },
};

function values(args: readonly string[], option: string): string[] {
  return args.flatMap((arg, index) => (arg === option ? [args[index + 1] ?? ''] : []));
}

void t.test('two NUMA nodes take all CPUs and all memory, the first the larger part', (t) => {
  for (const [cpus, memoryMib, expected] of [
    [2, 2304, { cpus: ['0-1', '2-2'], sizes: [1536, 768] }],
    [5, 1025, { cpus: ['0-3', '4-5'], sizes: [684, 341] }],
  ] as const) {
    const args = planNode(run, { cpus, memoryMib }, files);
    const text = args.join(' ');
    t.same(
      [...text.matchAll(/,cpus=(\S+)/g)].map((match) => match[1]),
      expected.cpus,
    );
    const sizes = [...text.matchAll(/size=(\d+)M/g)].map((match) => Number(match[1]));
    t.same(sizes, expected.sizes);
    t.equal(sizes[0]! + sizes[1]!, memoryMib);
    t.same([values(args, '-smp'), values(args, '-m')], [[String(1 + cpus)], [`${memoryMib}M`]]);
  }
  t.end();
});

void t.test('never KVM of the machine, and no disk is written to', (t) => {
  const args = planNode(run, { cpus: 2, memoryMib: 2304 }, files);
  t.match(values(args, '-accel'), [/^tcg,/]);
  t.match(values(args, '-drive'), [
    /file=\/root\.img,.*snapshot=on$/,
    /file=\/a,,b\/tree\.img,.*readonly=on$/,
    /file=\/m\.img,.*readonly=on$/,
  ]);
  t.end();
});

void t.test('a job has ports and a log, a shell has our terminal', (t) => {
  const shape = { cpus: 2, memoryMib: 2304 };
  const job = planNode(run, shape, files);
  t.match(values(job, '-append'), [/ testbed=run$/]);
  t.notMatch(values(job, '-append'), [/tsc_early_khz/]);
  t.match(values(planNode(run, { ...shape, tscKhz: 2_596_134 }, files), '-append'), [
    / tsc_early_khz=2596134 /,
  ]);
  t.same(values(job, '-serial'), ['chardev:console']);
  t.match(values(job, '-chardev'), [
    'socket,id=console,path=/s/console,server=on,wait=off,logfile=/s/console.log',
    /^socket,id=testbed\.out,/,
  ]);
  t.same(values(job, '-qmp'), ['unix:/s/monitor,server=on,wait=off']);
  t.ok(job.includes('virtserialport,chardev=testbed.out,name=testbed.out'));
  const shell = planNode({ kind: 'shell' }, shape, files);
  t.match(values(shell, '-append'), [/ testbed=shell$/]);
  t.same(values(shell, '-serial'), ['mon:stdio']);
  t.end();
});

void t.test('the kernel tells whom the job is to run under', (t) => {
  const shape = { cpus: 2, memoryMib: 2304 };
  const line = (init?: 'systemd'): string =>
    values(planNode(run, { ...shape, init }, files), '-append').join();
  t.match(line('systemd'), / testbed=run testbed\.init=systemd$/);
  t.match(line(), / testbed=run$/);
  t.end();
});
