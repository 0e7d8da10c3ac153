import { createHmac, randomBytes } from 'node:crypto';
import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { publishFile } from './publish-file.ts';

const KEY = /^[0-9a-f]{64}\n$/;
const KEY_BYTES = 32;

/**
 * A secret of this node, made when first needed. Names derived from it cannot be guessed by who builds an image, so
 * what is found under such a name was made here.
 * @throws VmError Internal when the key file is damaged.
 */
export async function readNodeKey(host: Host, dataDir: string): Promise<string> {
  const path = `${dataDir}/node.key`;
  const known = readKey(host, path);
  if (known !== undefined) return known;
  host.makeDir(dataDir, 0o700);
  const key = `${randomBytes(KEY_BYTES).toString('hex')}\n`;
  try {
    // Several VMs may start at once on a new node: each has a draft of its own, one of them wins.
    const draft = `${path}.${randomBytes(8).toString('hex')}.new`;
    const file = await publishFile(host, { path, draft }, (fd) => host.writeBytes(fd, 0, Buffer.from(key)));
    file[Symbol.dispose]();
  } catch (error) {
    if (!VmError.is(error, 'AlreadyExists')) throw error;
  }
  const made = readKey(host, path);
  if (made === undefined)
    throw new VmError(
      'Internal',
      `node key "${path}" is gone right after it was made; check who cleans ${dataDir}`,
    );
  return made;
}

/** 32 hex digits that only this node can derive from `purpose`. */
export function deriveToken(nodeKey: string, purpose: readonly string[]): string {
  return createHmac('sha256', nodeKey).update(JSON.stringify(purpose)).digest('hex').slice(0, 32);
}

function readKey(host: Host, path: string): string | undefined {
  let text: string;
  try {
    text = host.readText(path);
  } catch (error) {
    if (VmError.is(error, 'NotFound')) return undefined;
    throw error;
  }
  if (!KEY.test(text)) {
    throw new VmError(
      'Internal',
      `node key "${path}" is not 64 hex digits and a line feed; restore it from a backup, since the disks of bare containers are found by it`,
    );
  }
  return text.trimEnd();
}
