/** Bytes in which a lost, repeated or misplaced piece shows. */
export function burstBytes(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 7) ^ (i >> 8) ^ (i >> 16);
  return bytes;
}
