import protobuf from 'protobufjs/minimal.js';

/**
 * The protobufjs runtime as the generated modules use it: 64-bit fields are JavaScript numbers. Above 2^53 a number is
 * the nearest double, which is enough for byte counters and for the "unlimited" limits of a cgroup.
 */
const { util } = protobuf;

// protobufjs looks for the package `long` by itself and, if it finds it, decodes to objects whatever the types say.
Object.assign(util, { Long: null });
protobuf.configure();

const { LongBits } = util;
const exact = LongBits.fromNumber.bind(LongBits);

// 2^64 - 1, the cgroup's "max", reads as the double 2^64; written back, it must not wrap around to 0.
LongBits.fromNumber = (value: number) =>
  value >= 2 ** 64 ? new LongBits(0xffffffff, 0xffffffff) : exact(value);

export default protobuf;
