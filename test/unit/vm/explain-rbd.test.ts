import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import type { Volume } from '../../../src/qemu/qemu-input.ts';
import { explainRbd } from '../../../src/vm/explain-rbd.ts';

const device = {
  row: 'own',
  device: 'disk',
  bus: 'virtio',
  readOnly: false,
  cache: 'writeback',
  discard: true,
  blockSize: undefined,
  boot: undefined,
} as const;
const monitors = [{ host: 'fd00::1', port: '3300' }];
const image = { pool: 'volumes', namespace: 'team', image: 'db', user: 'vm', monitors };
const volumes: readonly Volume[] = [
  { ...device, name: 'plain', serial: 'plain', backend: 'file', aio: 'threads' },
  { ...device, name: 'db', serial: 'db', backend: 'rbd', rbd: { ...image, snapshot: undefined } },
  { ...device, name: 'snap', serial: 'snap', backend: 'rbd', rbd: { ...image, snapshot: 'v1' } },
];

/** As QEMU 7.2 says it, and QemuProcess hands it on. */
const said = (name: string, words: string): VmError =>
  new VmError(
    'FailedPrecondition',
    `QEMU did not start (exit status 1): -blockdev {"driver":"rbd","node-name":"file-${name}","server":[{"host":"a"}]}: ${words}`,
  );

void t.test('what QEMU says of an image becomes a sentence with a remedy', (t) => {
  for (const [name, words, kind, message] of [
    [
      'db',
      "Unknown driver 'rbd'",
      'FailedPrecondition',
      /no driver for it; install the package qemu-block-extra/,
    ],
    [
      'db',
      'error connecting: Connection timed out',
      'Unavailable',
      /no monitor answered within 9 seconds \(\[fd00::1\]:3300\)/,
    ],
    [
      'db',
      'error connecting: Permission denied',
      'PermissionDenied',
      /Ceph does not know client.vm by the key in the Secret/,
    ],
    [
      'db',
      'error connecting: Invalid argument',
      'Unavailable',
      /cannot be used \(error connecting: Invalid argument\)/,
    ],
    [
      'db',
      'error opening pool volumes: No such file or directory',
      'NotFound',
      /the cluster has no pool "volumes"/,
    ],
    ['db', "namespace 'team' does not exist", 'NotFound', /the pool has no namespace "team"/],
    ['db', 'error reading header from db: No such file or directory', 'NotFound', /has no such image;/],
    [
      'snap',
      'error reading header from db: No such file or directory',
      'NotFound',
      /has no such image or no such snapshot;/,
    ],
    [
      'db',
      'error reading header from db: Operation not permitted',
      'PermissionDenied',
      /"osd 'profile rbd pool=volumes'"/,
    ],
    ['db', 'something new', 'FailedPrecondition', /QEMU cannot open it \(something new\)/],
  ] as const) {
    const told = explainRbd(said(name, words), volumes, 9);
    t.match(told, { kind, message }, words);
    t.match(told.message, /^disk "(db|snap)" \(rbd volumes\/team\/db/);
    t.notMatch(told.message, /node-name/);
  }
  t.end();
});

void t.test(
  'what is not about an image stays as it is, and a start that takes too long names the images',
  (t) => {
    for (const other of [
      said('plain', 'error connecting: Connection timed out'),
      new VmError('FailedPrecondition', 'QEMU did not start (exit status 1): no memory'),
      new VmError('Canceled', 'starting QEMU: canceled'),
    ])
      t.equal(explainRbd(other, volumes, 9), other);
    const late = explainRbd(new VmError('DeadlineExceeded', 'starting QEMU'), volumes, 9);
    t.match(late, { kind: 'Unavailable', message: /disk "db" \(rbd volumes\/team\/db\), disk "snap" .*@v1/ });
    t.end();
  },
);
