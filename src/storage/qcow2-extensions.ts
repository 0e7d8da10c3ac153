import { REMEDY } from './image-remedy.ts';

/** Types of header extensions. Source: QEMU docs/interop/qcow2.txt, "Header extensions". */
const EXTENSION = {
  end: 0,
  backingFormat: 0xe2_79_2a_ca,
  encryption: 0x05_37_be_77,
  dataFile: 0x44_41_54_41,
} as const;

/**
 * Walks the header extensions from `start` to the end marker, at most to `end` (the backing file name or the end of
 * the first cluster). Types it does not know are passed over, as the format wants.
 */
export function walkQcow2Extensions(
  head: Buffer,
  start: number,
  end: number,
  refuse: (what: string, remedy: string) => never,
): { backingFormat: string | undefined } {
  let backingFormat: string | undefined;
  for (let at = start; at < end;) {
    if (at + 8 > Math.min(end, head.length)) {
      if (at + 8 > end) break;
      refuse(`its header extensions reach past the first ${head.length} bytes`, REMEDY.damaged);
    }
    const type = head.readUInt32BE(at);
    const length = head.readUInt32BE(at + 4);
    if (type === EXTENSION.end) break;
    const data = at + 8;
    if (length > end - data || length > head.length - data) {
      refuse(`its header extension 0x${type.toString(16)} at ${at} claims ${length} bytes`, REMEDY.damaged);
    }
    if (type === EXTENSION.encryption) refuse('it has an encryption header', REMEDY.decrypt);
    if (type === EXTENSION.dataFile) {
      const name = JSON.stringify(head.toString('utf8', data, data + Math.min(length, 80)));
      refuse(`it names an external data file ${name}, which could be any file of the host`, REMEDY.convert);
    }
    if (type === EXTENSION.backingFormat) backingFormat = head.toString('utf8', data, data + length);
    at = data + Math.ceil(length / 8) * 8;
  }
  return { backingFormat };
}
