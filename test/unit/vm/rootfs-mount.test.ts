import t from 'tap';
import type { Native } from '../../../src/host/native.ts';
import { detachMounts, mountRootfs, planMounts, type RootfsMount } from '../../../src/vm/rootfs-mount.ts';

const RDONLY = 1;
const NOSUID = 2;
const REMOUNT = 32;
const BIND = 4096;
const REC = 16384;
const mount = (type: string, options: readonly string[], more: Partial<RootfsMount> = {}): RootfsMount => ({
  type,
  source: '/src',
  target: '',
  options,
  ...more,
});

void t.test('an overlay: flags apart from what the file system reads', (t) => {
  const options = ['index=off', 'workdir=/w', 'upperdir=/u', 'lowerdir=/a:/b', 'nosuid'];
  t.same(planMounts([mount('overlay', options, { source: 'overlay' })], '/b/rootfs'), [
    {
      type: 'overlay',
      source: 'overlay',
      target: '/b/rootfs',
      flags: NOSUID,
      data: 'index=off,workdir=/w,upperdir=/u,lowerdir=/a:/b',
    },
  ]);
  t.end();
});

void t.test('a bind takes no data, and a second call to be read-only', (t) => {
  const call = { type: 'none', source: '/src', target: '/r', data: '' };
  t.same(planMounts([mount('bind', ['rbind', 'rw', 'rprivate'])], '/r'), [{ ...call, flags: BIND | REC }]);
  t.same(planMounts([mount('bind', ['rbind', 'ro', 'nosuid'])], '/r'), [
    { ...call, flags: BIND | REC },
    { ...call, flags: BIND | REC | RDONLY | NOSUID | REMOUNT },
  ]);
  t.same(
    planMounts([mount('', ['bind', 'ro', 'rw'])], '/r'),
    [{ ...call, flags: BIND }],
    'the last word counts',
  );
  t.same(planMounts([mount('bind', [])], '/r'), [{ ...call, flags: BIND }]);
  t.end();
});

void t.test('several layers, one of them below the root', (t) => {
  const calls = planMounts([mount('ext4', ['ro']), mount('tmpfs', ['size=1m'], { target: 'run' })], '/r');
  t.match(calls, [
    { target: '/r', flags: RDONLY, data: '' },
    { target: '/r/run', flags: 0, data: 'size=1m' },
  ]);
  t.same(planMounts([], '/r'), []);
  t.end();
});

void t.test('options beyond a page are refused', (t) => {
  const lowerdir = (bytes: number): string => 'x'.repeat(bytes);
  t.equal(planMounts([mount('overlay', [lowerdir(4095)])], '/r').length, 1);
  t.throws(() => planMounts([mount('overlay', [lowerdir(4096)])], '/r'), {
    kind: 'InvalidArgument',
    message: /"overlay" has more options than mount\(2\) takes; give the image fewer layers/,
  });
  t.end();
});

/** A kernel with nothing but a stack of mounts per path. */
function kernel(refuse: (call: number) => boolean = () => false) {
  const stacked: string[] = [];
  let calls = 0;
  const native = {
    mount: (_source: string | null, target: string, _type: string | null, flags: number) => {
      if (refuse(calls++)) throw Object.assign(new Error('EINVAL'), { code: 'EINVAL' });
      if ((flags & REMOUNT) === 0) stacked.push(target);
    },
    umount: (target: string) => {
      const at = stacked.lastIndexOf(target);
      if (at < 0) throw Object.assign(new Error('EINVAL'), { code: 'EINVAL' });
      stacked.splice(at);
    },
  } as Partial<Native> as Native;
  return { native, stacked };
}

void t.test('a root file system is mounted for the time of its disposable', (t) => {
  const { native, stacked } = kernel();
  const mounts = [mount('overlay', []), mount('bind', ['ro']), mount('tmpfs', [], { target: 'run' })];
  {
    using _mounted = mountRootfs(native, { path: '/r', mounts });
    t.same(stacked, ['/r', '/r', '/r/run']);
  }
  t.same(stacked, []);
  t.end();
});

void t.test('a mount that fails takes back the ones before it', (t) => {
  const { native, stacked } = kernel((call) => call === 1);
  t.throws(() => mountRootfs(native, { path: '/r', mounts: [mount('overlay', []), mount('ext4', [])] }), {
    kind: 'FailedPrecondition',
    message: /cannot mount the container's root file system on "\/r"/,
  });
  t.same(stacked, []);
  t.end();
});

void t.test('detaching goes on until nothing is mounted', (t) => {
  const { native, stacked } = kernel();
  detachMounts(native, '/r');
  for (let i = 0; i < 3; i++) native.mount(null, '/r', null, 0, null);
  detachMounts(native, '/r');
  t.same(stacked, []);
  t.end();
});
