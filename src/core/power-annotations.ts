import { parseGuestEnd, parseWatchdogAction, parseWatchdogModel } from './parse-choices.ts';

/** What becomes of a VM whose guest ends or hangs; a part of `ANNOTATIONS`. */
export const POWER_ANNOTATIONS = {
  'on-poweroff': {
    type: 'exit, restart or hold',
    default: 'exit',
    example: 'hold',
    description:
      'What becomes of the VM when its guest powers itself off: its task ends, it boots again, or it is off until somebody starts it. See power.md.',
    parse: parseGuestEnd,
  },
  'on-reboot': {
    type: 'exit, restart or hold',
    default: 'restart; for `microvm` exit',
    example: 'exit',
    description: 'The same for a guest that reboots.',
    parse: parseGuestEnd,
  },
  'on-crash': {
    type: 'exit, restart or hold',
    default: 'exit',
    example: 'restart',
    description:
      'The same for a guest whose kernel panics, and for a QEMU that ends by itself. `restart` waits longer and longer where it happens again.',
    parse: parseGuestEnd,
  },
  watchdog: {
    type: 'none or i6300esb',
    default: 'none',
    example: 'i6300esb',
    description: 'Watchdog device: a guest that does not serve it in time meets `watchdog-action`.',
    parse: parseWatchdogModel,
  },
  'watchdog-action': {
    type: 'reset, pause, nmi or none',
    default: 'reset',
    example: 'nmi',
    description:
      'What the watchdog does: reset the guest, which follows `on-reboot`; stop it until somebody resumes it; send it a non-maskable interrupt; or nothing.',
    parse: parseWatchdogAction,
  },
} as const;
