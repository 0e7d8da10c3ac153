/**
 * A shim that gives up on a lock: says why, and ends as a shim does.
 *
 *     node lock-waiter.ts PATH
 */
import { lockFile } from '../../src/host/file-lock.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { loadNative } from '../../src/host/native.ts';

const [path = ''] = process.argv.slice(2);
const given = new AbortController();
const waiting = lockFile(new LinuxHost(), loadNative(), path, given.signal);
// The thread is in the call by then, or never will be: it makes no difference to what follows.
setImmediate(() => given.abort());
await waiting.catch((error: unknown) => console.log((error as Error).message));
process.exit();
