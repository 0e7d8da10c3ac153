import { bytesTargets } from './targets/byte-streams.ts';
import { cniTarget } from './targets/cni.ts';
import { configTarget } from './targets/config.ts';
import { dhcpTarget } from './targets/dhcp.ts';
import { guestDataTarget } from './targets/guest-data.ts';
import { imageTarget } from './targets/image.ts';
import { specTarget } from './targets/spec.ts';
import type { FuzzTarget } from './target.ts';

/** Every parser that meets input of somebody who is not trusted. */
export function fuzzTargets(): FuzzTarget[] {
  return [
    ...bytesTargets(),
    dhcpTarget(),
    imageTarget(),
    specTarget(),
    guestDataTarget(),
    cniTarget(),
    configTarget(),
  ];
}
