/**
 * The rate of this machine's TSC, in kHz, where its kernel tells it: in a virtual machine without APERF and MPERF, "cpu MHz" of
 * /proc/cpuinfo is what that kernel found for the TSC; elsewhere it is the clock of a core, which is another thing.
 *
 * TCG hands this TSC on, and a node's kernel that has to measure it while its CPUs are taken away measures wrong.
 */
export function tscKhz(cpuinfo: string): number | undefined {
  const flags = new Set(/^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.split(' '));
  const mhz = Number(/^cpu MHz\s*:\s*([\d.]+)$/m.exec(cpuinfo)?.[1]);
  if (!flags.has('hypervisor') || flags.has('aperfmperf') || !(mhz > 0)) return undefined;
  return Math.round(mhz * 1000);
}
