import { execFileSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';

/** An image file that must be refused, how it is made, and what the refusal has to say. */
export interface HostileImage {
  readonly what: string;
  readonly make: (path: string) => void;
  readonly says: RegExp;
}

const MIB = 2 ** 20;

function create(path: string, args: readonly string[], size = '64M'): void {
  execFileSync('qemu-img', ['create', '-q', ...args, path, size], { stdio: 'pipe' });
}

/** A sound qcow2 of 64 MiB. */
export function makeQcow2(path: string, options: readonly string[] = []): void {
  create(path, ['-f', 'qcow2', ...options]);
}

/** A raw disk with a boot signature, sparse beyond its first sector. */
export function makeRaw(path: string, size = MIB): void {
  const sector = Buffer.alloc(512);
  sector.writeUInt16LE(0xaa55, 510);
  writeFileSync(path, sector);
  truncateSync(path, size);
}

/** A sound qcow2 with bytes of its header replaced. */
export function patched(
  patch: (image: Buffer) => void,
  options: readonly string[] = [],
): (path: string) => void {
  return (path) => {
    makeQcow2(path, options);
    const image = readFileSync(path);
    patch(image);
    writeFileSync(path, image);
  };
}

/** A header extension in front of those that are there. */
function extension(type: number, data: Buffer): (image: Buffer) => void {
  return (image) => {
    const start = image.readUInt32BE(100);
    const length = 8 + Math.ceil(data.length / 8) * 8;
    image.copyWithin(start + length, start, 4096);
    image.fill(0, start, start + length);
    image.writeUInt32BE(type, start);
    image.writeUInt32BE(data.length, start + 4);
    data.copy(image, start + 8);
  };
}

function backedBy(name: string, format = 'raw'): (path: string) => void {
  return (path) => {
    create(path, ['-f', 'qcow2', '-u', '-F', format, '-b', name]);
  };
}

function startsWith(bytes: string, size = MIB): (path: string) => void {
  return (path) => {
    writeFileSync(path, Buffer.concat([Buffer.from(bytes, 'latin1'), Buffer.alloc(size)]).subarray(0, size));
  };
}

function contains(bytes: string, at: number, size = MIB): (path: string) => void {
  return (path) => {
    const image = Buffer.alloc(size);
    image.write(bytes, at, 'latin1');
    writeFileSync(path, image);
  };
}

const u32 = (at: number, value: number) => patched((image) => void image.writeUInt32BE(value, at));
const u64 = (at: number, value: bigint) => patched((image) => void image.writeBigUInt64BE(value, at));

/** qcow2 files that reach for the host's files, cannot be read without a secret, or lie about themselves. */
export const HOSTILE_QCOW2: readonly HostileImage[] = [
  {
    what: 'backing file /etc/passwd',
    make: backedBy('/etc/passwd'),
    says: /backing file "\/etc\/passwd".*flatten/,
  },
  {
    what: 'backing file by json:',
    make: backedBy('json:{"driver":"raw","file":{"driver":"file","filename":"/etc/shadow"}}'),
    says: /backing file "json:.*flatten/,
  },
  {
    what: 'backing file over the network',
    make: backedBy('nbd://198.51.100.1/x'),
    says: /backing file "nbd:/,
  },
  { what: 'backing offset without a length', make: u64(8, 512n), says: /backing file ""/ },
  {
    what: 'backing length without an offset',
    make: u32(16, 11),
    says: /backing file name \(offset 0, 11 bytes\)/,
  },
  { what: 'backing name out of the header', make: u64(8, 2n ** 63n), says: /does not fit its header/ },
  {
    what: 'external data file',
    make: (path) => {
      create(path, ['-f', 'qcow2', '-o', `data_file=${path}.data,data_file_raw=on`]);
    },
    says: /external data file.*convert/,
  },
  {
    what: 'data file name without its feature bit',
    make: patched(extension(0x44_41_54_41, Buffer.from('/etc/passwd'))),
    says: /external data file "\/etc\/passwd"/,
  },
  {
    what: 'data file bit without a name',
    make: u64(72, 4n),
    says: /external data file/,
  },
  // Patched, since qemu-img measures the machine's speed to make a LUKS header and gives up on a busy one.
  {
    what: 'LUKS encryption',
    make: patched((image) => {
      image.writeUInt32BE(2, 32);
      extension(0x05_37_be_77, Buffer.alloc(16, 1))(image);
    }),
    says: /crypt_method is 2 \(LUKS\).*without encryption/,
  },
  { what: 'AES encryption', make: u32(32, 1), says: /crypt_method is 1 \(AES\)/ },
  { what: 'unknown encryption', make: u32(32, 9), says: /crypt_method is 9 \(unknown\)/ },
  {
    what: 'encryption header without a method',
    make: patched(extension(0x05_37_be_77, Buffer.alloc(16))),
    says: /encryption header/,
  },
  { what: 'virtual size 0', make: u64(24, 0n), says: /virtual size is 0 bytes/ },
  {
    what: 'virtual size of 8 EiB',
    make: u64(24, 2n ** 63n),
    says: /virtual size is 9223372036854775808.*64 TiB/,
  },
  {
    what: 'virtual size above its L1 table',
    make: u64(24, 2n ** 40n),
    says: /l1_size is 1, but .* needs 2048/,
  },
  { what: 'L1 table above QEMU’s limit', make: u32(36, 2 ** 31), says: /l1_size is 2147483648, above/ },
  {
    what: 'L1 table past the end of the file',
    make: u64(40, 2n ** 40n),
    says: /l1_table_offset is 1099511627776/,
  },
  {
    what: 'L1 table at an odd place',
    make: u64(40, 12_345n),
    says: /l1_table_offset is 12345, not a multiple/,
  },
  { what: 'L1 table in the header', make: u64(40, 0n), says: /l1_table_offset is 0/ },
  { what: 'refcount table past the end', make: u64(48, 2n ** 62n), says: /refcount_table_offset is/ },
  { what: 'no refcount table', make: u32(56, 0), says: /refcount_table_clusters is 0/ },
  { what: 'huge refcount table', make: u32(56, 2 ** 30), says: /refcount_table_clusters is 1073741824/ },
  { what: 'too many snapshots', make: u32(60, 2 ** 20), says: /nb_snapshots is 1048576/ },
  { what: 'snapshots that are not there', make: u32(60, 2), says: /snapshots_offset is 0/ },
  {
    what: 'a snapshot table at an odd place',
    make: u64(64, 7n),
    says: /snapshots_offset is 7, not a multiple/,
  },
  { what: 'qcow version 1', make: u32(4, 1), says: /version is 1.*convert/ },
  { what: 'qcow version 4', make: u32(4, 4), says: /version is 4/ },
  { what: 'cluster_bits 8', make: u32(20, 8), says: /cluster_bits is 8/ },
  { what: 'cluster_bits 63', make: u32(20, 63), says: /cluster_bits is 63/ },
  { what: 'the corrupt bit', make: u64(72, 2n), says: /say corrupt.*qemu-img check -r all/ },
  { what: 'unknown incompatible features', make: u64(72, 1n << 40n), says: /unknown bits 0x10000000000/ },
  { what: 'refcount_order 7', make: u32(96, 7), says: /refcount_order is 7/ },
  { what: 'header_length past the cluster', make: u32(100, 1 << 20), says: /header_length is 1048576/ },
  { what: 'an odd header_length', make: u32(100, 107), says: /header_length is 107/ },
  {
    what: 'an unknown compression',
    make: patched((image) => void image.writeUInt8(7, 104)),
    says: /compression_type is 7/,
  },
  {
    what: 'zstd without its bit',
    make: patched((image) => void image.writeUInt8(1, 104)),
    says: /say otherwise/,
  },
  {
    what: 'extended L2 entries in small clusters',
    make: patched((image) => void image.writeBigUInt64BE(16n, 72), ['-o', 'cluster_size=4096']),
    says: /cluster_bits is 12, too small/,
  },
  {
    what: 'an extension that overruns',
    make: patched((image) => void image.writeUInt32BE(2 ** 31, image.readUInt32BE(100) + 4)),
    says: /extension 0x[0-9a-f]+ at \d+ claims 2147483648 bytes/,
  },
  {
    what: 'an extension that overruns its small cluster',
    make: patched(
      (image) => {
        image.writeUInt32BE(0x1234, image.readUInt32BE(100));
        image.writeUInt32BE(512, image.readUInt32BE(100) + 4);
      },
      ['-o', 'cluster_size=512'],
    ),
    says: /extension 0x1234 at 112 claims 512 bytes/,
  },
  {
    what: 'a header without its end',
    make: (path) => {
      makeQcow2(path);
      truncateSync(path, 40);
    },
    says: /40 bytes, which is no complete qcow2 header/,
  },
  {
    what: 'a file cut off in transfer',
    make: (path) => {
      makeQcow2(path);
      truncateSync(path, 100_000);
    },
    says: /file ends at 100000 bytes.*copy it again/,
  },
];

/** Files that must not pass as raw disks. */
export const FOREIGN_FORMATS: readonly HostileImage[] = [
  ...['vmdk', 'vhdx', 'vpc', 'vdi', 'qed', 'parallels'].map((format) => ({
    what: format,
    make: (path: string) => {
      create(path, ['-f', format]);
    },
    says: /not a qcow2 or raw disk; convert it with "qemu-img convert -O qcow2"/,
  })),
  {
    what: 'fixed VHD',
    make: (path) => {
      create(path, ['-f', 'vpc', '-o', 'subformat=fixed'], '1M');
    },
    says: /VHD image/,
  },
  {
    what: 'VMDK descriptor',
    make: startsWith('# Disk DescriptorFile\nRW 1 FLAT "/etc/passwd" 0\n'),
    says: /VMDK descriptor/,
  },
  { what: 'LUKS', make: startsWith('LUKS\xba\xbe'), says: /LUKS-encrypted.*without encryption/ },
  { what: 'gzip', make: startsWith('\x1f\x8b\x08'), says: /gzip-compressed.*unpack/ },
  { what: 'xz', make: startsWith('\xfd7zXZ\0'), says: /xz-compressed/ },
  { what: 'zstd', make: startsWith('\x28\xb5\x2f\xfd'), says: /zstd-compressed/ },
  { what: 'zip', make: startsWith('PK\x03\x04'), says: /zip archive/ },
  { what: 'tar', make: contains('ustar', 257), says: /tar archive/ },
  { what: 'DMG', make: contains('koly', MIB - 512), says: /DMG/ },
  { what: 'ISO 9660', make: contains('CD001', 32_769), says: /CD-ROM.*later feature/ },
  { what: 'an empty file', make: startsWith('', 0), says: /is empty/ },
];
