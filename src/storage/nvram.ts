import { VmError } from '../core/errors.ts';
import type { FirmwareKind } from '../core/vm-spec.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';
import { publishFile } from './publish-file.ts';
import type { RootDiskPlan } from './root-disk.ts';
import { ensureStateDirectory } from './state-directory.ts';

const { O_RDONLY, O_RDWR, O_NOFOLLOW, O_NONBLOCK } = openFlags;
/** Flash is at most a few MiB: OVMF's variable store has 528 KiB in its 4 MiB build. */
const MAX_TEMPLATE = 64 * 2 ** 20;

/** Enrolled keys are variables too: a store without them leaves Secure Boot off, so each firmware has one of its own. */
export function planNvram(plan: RootDiskPlan, firmware: FirmwareKind): RootDiskPlan {
  return firmware === 'uefi-secure' ? { ...plan, nvram: `${plan.state.path}/nvram-secure.fd` } : plan;
}

/**
 * The VM's own UEFI variables: copied once from the firmware's template (such as OVMF_VARS_4M.fd), then kept with the
 * disk, with whatever the guest's boot loader stored in them.
 * @returns the file, open for reading and writing; the caller closes it.
 * @throws VmError NotFound without the template; FailedPrecondition when the kept file does not fit the template.
 */
export async function ensureNvram(host: Host, plan: RootDiskPlan, template: string): Promise<OwnedFd> {
  using source = host.open(template, O_RDONLY | O_NONBLOCK);
  const { kind, size } = host.inspectFd(source.fd);
  if (kind !== 'file' || size === 0 || size > MAX_TEMPLATE) {
    throw new VmError(
      'InvalidArgument',
      `UEFI variable template "${template}" is a ${kind} of ${size} bytes; name the firmware’s own, such as OVMF_VARS_4M.fd`,
    );
  }
  ensureStateDirectory(host, plan.state);
  const info = host.inspect(plan.nvram);
  if (info === undefined) {
    return await publishFile(host, { path: plan.nvram, draft: `${plan.nvram}.new` }, (fd) => {
      host.writeBytes(fd, 0, host.readBytes(source.fd, 0, size));
    });
  }
  if (info.kind !== 'file' || info.size !== size) {
    throw new VmError(
      'FailedPrecondition',
      `UEFI variables "${plan.nvram}" are a ${info.kind} of ${info.size} bytes, but the template "${template}" has ${size}; configure the firmware they were made with, or move them away to begin with fresh ones`,
    );
  }
  return host.open(plan.nvram, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
}
