import t from 'tap';
import { parseAnnotations } from '../../../src/core/annotations.ts';
import { parseConfig } from '../../../src/core/config.ts';
import { limitedVcpus, parseCpus } from '../../../src/core/parse-cpus.ts';

const config = parseConfig('', 'c');
const none = {
  cpuShares: undefined,
  cpuQuota: undefined,
  cpuPeriod: undefined,
  cpusetCpus: undefined,
  cpusetMems: undefined,
};
const cpus = (said: Record<string, string>, cpuQuota?: number, machine: 'q35' | 'microvm' = 'q35') =>
  parseCpus(
    parseAnnotations(
      Object.fromEntries(Object.entries(said).map(([key, value]) => [`vmshim.io/${key}`, value])),
    ),
    { ...none, cpuQuota },
    machine,
    config,
  );

void t.test('how many vCPUs there are, and may be', (t) => {
  t.match(cpus({}), { vcpus: 1, maxVcpus: 1, vcpusFollowLimit: true });
  t.match(cpus({}, 250_000), { vcpus: 3, maxVcpus: 3, vcpusFollowLimit: true });
  t.match(cpus({ cpus: '2' }, 400_000), { vcpus: 2, maxVcpus: 2, vcpusFollowLimit: false });
  t.match(cpus({ 'max-cpus': '8' }, 200_000), { vcpus: 2, maxVcpus: 8, vcpusFollowLimit: true });
  t.match(cpus({ cpus: '2', 'max-cpus': '4' }), { vcpus: 2, maxVcpus: 4, vcpusFollowLimit: true });
  t.match(cpus({ cpus: '2', 'max-cpus': '2' }, undefined, 'microvm'), { maxVcpus: 2 });
  t.end();
});

void t.test('what cannot grow is refused, with what stands against it', (t) => {
  const cases: [Record<string, string>, 'q35' | 'microvm', RegExp][] = [
    [{ cpus: '4', 'max-cpus': '2' }, 'q35', /max-cpus is "2", but the VM starts with 4 vCPUs/],
    [{ 'max-cpus': '2' }, 'microvm', /a microvm takes no CPUs while it runs: .*machine to "q35"/],
    [{ 'max-cpus': '2', numa: 'spread' }, 'q35', /divided for good: .*numa to "auto"/],
    [{ 'max-cpus': '2', 'cpu-pinning': 'dedicated' }, 'q35', /taken for good: .*cpu-pinning to "shared"/],
  ];
  for (const [said, machine, message] of cases) {
    t.throws(() => cpus(said, undefined, machine), { kind: 'InvalidArgument', message });
  }
  t.throws(() => cpus({}, 256 * 100_000), { message: /asks for 256 vCPUs; a VM has at most 255/ });
  t.end();
});

void t.test('a guest is a hypervisor on the host’s own CPU, when asked for', (t) => {
  t.equal(cpus({}).nested, false);
  t.equal(cpus({ 'nested-virtualization': 'on' }).nested, true);
  t.equal(cpus({ 'nested-virtualization': 'on', 'cpu-model': 'host' }).nested, true);
  t.equal(cpus({ 'nested-virtualization': 'off', 'cpu-model': 'Nehalem' }).nested, false);
  t.throws(() => cpus({ 'nested-virtualization': 'on', 'cpu-model': 'baseline' }), {
    kind: 'InvalidArgument',
    message: /only the host’s own CPU offers, not "baseline": set vmshim.io\/cpu-model to "host"/,
  });
  t.end();
});

void t.test('vCPUs of a CPU limit', (t) => {
  t.equal(limitedVcpus({ cpuQuota: 100_001, cpuPeriod: undefined }), 2);
  t.equal(limitedVcpus({ cpuQuota: 30_000, cpuPeriod: 10_000 }), 3);
  for (const cpuQuota of [undefined, -1, 0]) t.equal(limitedVcpus({ cpuQuota, cpuPeriod: 1 }), undefined);
  t.end();
});
