/** What to do about a disk image that is refused. */
export const REMEDY = {
  convert: 'convert it with "qemu-img convert -O qcow2"',
  bootable: 'give the disk of an installed system, or a kernel to boot it with',
  damaged: 'it is damaged or was cut off on its way: make or copy it again and test it with "qemu-img check"',
  decrypt: 'store it without encryption: "qemu-img convert -O qcow2" with its secret does that',
} as const;
