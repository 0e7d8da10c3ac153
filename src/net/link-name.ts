import { VmError } from '../core/errors.ts';

/**
 * Checks the name of a link that is to become part of a path, an ip, tc or nft command: 1 to 15 letters, digits, `_`,
 * `.`, `-` (the kernel takes more). Throws InvalidArgument.
 */
export function checkLinkName(name: string): string {
  if (/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/.test(name)) return name;
  throw new VmError(
    'InvalidArgument',
    `${JSON.stringify(name)} is no usable name of a network interface; use 1 to 15 letters, digits, "_", "." or "-"`,
  );
}
