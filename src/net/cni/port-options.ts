import type { VmError } from '../../core/errors.ts';
import { type PortOptions, VLAN_IDS, type VlanRange } from '../bridge-port.ts';
import type { TapAttachment } from '../guest-network.ts';
import { IF_NAME, IF_NAME_TYPE } from './names.ts';
import type { JsonField } from './json-field.ts';

/**
 * `vlan`, `trunk`, `isolated` and `hairpin` of a network configuration, and of what the hand-over file keeps of it.
 * The first two are written as ovs-cni has them.
 */
export function parsePortOptions(field: JsonField): PortOptions {
  const { min, max } = VLAN_IDS;
  const vlan = field.at('vlan').integer(min, max);
  const trunk = field.at('trunk').list().map(parseRange);
  return {
    ...(vlan !== undefined && { vlan }),
    ...(trunk.length > 0 && { trunk }),
    ...(field.at('isolated').flag() === true && { isolated: true }),
    ...(field.at('hairpin').flag() === true && { hairpin: true }),
  };
}

/** @param kind of an attachment to a bridge. */
export function bridgeAttachment(
  kind: 'bridge' | 'ovs',
  bridge: JsonField,
  port: PortOptions,
): TapAttachment {
  const name = bridge.requiredText(IF_NAME_TYPE, (text) => (IF_NAME.test(text) ? text : undefined));
  return { kind, bridge: name, ...(Object.keys(port).length > 0 && { port }) };
}

/** `{"id": 7}` or `{"minID": 7, "maxID": 9}`. */
function parseRange(field: JsonField): VlanRange {
  const { min, max } = VLAN_IDS;
  const wrong = (): VmError =>
    field.invalid(`{"id": N} or {"minID": N, "maxID": M} with VLANs from ${min} to ${max}`);
  const [id, minID, maxID] = ['id', 'minID', 'maxID'].map((key) => field.at(key).integer(min, max));
  if (id !== undefined && minID === undefined && maxID === undefined) return { minID: id, maxID: id };
  if (id !== undefined || minID === undefined || maxID === undefined || minID > maxID) throw wrong();
  return { minID, maxID };
}
